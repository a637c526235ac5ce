import warnings

# Some of the methods' libraries import timm by old names. A user can do nothing about it.
warnings.filterwarnings("ignore", "Importing from timm", FutureWarning)
