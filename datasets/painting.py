"""The pictures of brain, liver and retina that phantoms are made of: slices with lesions, drawn from random streams.

Lengths in the pictures are in units of half the image's width, with the origin at its centre, x to the right, y down.
"""

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter


def brain(
    patient: np.random.Generator, own: np.random.Generator, number: int, size: int, lesions: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A FLAIR-like slice without skull; see `phantom.Painter`."""
    x, y = _grid(size, size)
    step = (number - 61) * 0.02  # from slice to slice the head grows and the ventricles shrink a little
    width, height = patient.uniform(0.66, 0.74) + step, patient.uniform(0.82, 0.9) + step
    depth = 1 - np.hypot(x / width, y / height) * _outline(patient, x, y, 0.015)
    brain = depth > 0

    folds = np.abs(_noise(patient, x.shape, 22) + 0.35 * _noise(own, x.shape, 22))
    outer = _fade(0.32 - depth, 0.14)
    midline = np.abs(x + 0.02 * _noise(patient, x.shape, 4))
    apart = _fade(np.abs(y + 0.05) - 0.4, 0.05)  # in the middle, the corpus callosum joins the hemispheres
    grey_matter = np.maximum(outer * np.exp(-((folds / 0.75) ** 2)), apart * np.exp(-((midline / 0.06) ** 2)))
    sulci = np.maximum(outer * np.exp(-((folds / 0.17) ** 2)), apart * np.exp(-((midline / 0.014) ** 2)))
    grey = 0.4 + 0.17 * grey_matter + 0.015 * _noise(own, x.shape, 30)
    for side in (-1, 1):
        nucleus = np.hypot((x - side * 0.22) / 0.1, (y - 0.02) / 0.17)
        grey += 0.08 * _fade(1 - nucleus, 0.2)
    ventricle = _ventricles(patient, x, y, step)
    grey += patient.uniform(0.08, 0.25) * np.exp(-(((ventricle - 0.3) / 0.5) ** 2)) * _fade(np.abs(y) - 0.2, 0.06)
    grey += 0.2 * _fade(_noise(patient, x.shape, 7) - 1.0, 0.3) * outer  # bright patches of cortex that are no lesions
    inside = _fade(ventricle, 0.25)
    grey = grey * (1 - inside) + 0.1 * inside
    grey = grey * (1 - sulci) + 0.14 * sulci

    mask = np.zeros_like(brain)
    if lesions:
        for _ in range(_lesion_count(own)):
            shape = _blob(own, x, y, (depth > 0.12) & (ventricle < -0.6), (0.05, 0.2), 0.3)
            faint = own.random() < 0.4
            contrast = own.uniform(0.05, 0.12) if faint else own.uniform(0.16, 0.34)
            texture = 1 + 0.2 * _noise(own, x.shape, 20)
            grey += contrast * texture * _fade(shape, 0.15) * (1 - 0.7 * sulci) * (1 - inside)
            if not faint and own.random() < 0.7:  # a necrotic core is dark
                core = _fade(shape + 0.1 * _noise(own, x.shape, 12) - own.uniform(0.25, 0.5), 0.2) * (1 - inside)
                grey += core * (0.24 - grey)
            mask |= (shape > 0) & brain & (ventricle < 0)
    grey *= 1 + 0.17 * _noise(patient, x.shape, 2)  # the coil's bias field
    noise = 0.028 * own.standard_normal((2, *x.shape))
    return np.hypot(grey + noise[0], noise[1]) * 1.25 * brain, mask  # Rician


def _ventricles(patient: np.random.Generator, x: np.ndarray, y: np.ndarray, step: float) -> np.ndarray:
    """How deep a pixel lies in the lateral ventricles: above 0 inside, in units of their half-width."""
    half_width = patient.uniform(0.035, 0.07) - step / 4
    length = patient.uniform(0.36, 0.44)
    bend = np.where(y < 0, 0.5, 1.1) * y**2
    profile = np.sqrt(np.clip(1 - (y / length) ** 2, 1e-6, None))
    gaps = [np.abs(x - side * (half_width + 0.025 + bend)) for side in (-1, 1)]
    return profile - np.minimum(*gaps) / half_width - 2 * np.clip(np.abs(y) / length - 1, 0, None)


def liver(
    patient: np.random.Generator, own: np.random.Generator, number: int, size: int, lesions: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A histogram-equalised liver on black; see `phantom.Painter`."""
    x, y = _grid(size, size)
    growth = 1 + (number - 61) * 0.03
    right = 1 - np.hypot((x + 0.28) / (0.5 * growth), (y - 0.06) / patient.uniform(0.58, 0.7))
    left_length = patient.uniform(0.5, 0.68) * growth
    left = 1 - np.hypot((x - 0.12) / left_length, (y + 0.3 - 0.12 * x) / (0.3 - 0.14 * x))
    hilum = 1 - np.hypot((x - 0.22) / 0.26, (y - 0.3) / 0.34)
    edge = np.maximum(right, np.where(x < 0.95, left, -1)) - 1.2 * np.clip(hilum + 0.05, 0, None)
    edge += 0.035 * _noise(patient, x.shape, 7)
    liver = edge > 0.02

    vessels = _vessels(patient, own, size)
    grey = 0.55 + 0.03 * _noise(own, x.shape, 5) + 0.16 * vessels
    texture = gaussian_filter(own.standard_normal(x.shape), size / 256) * size / 256
    grey += 0.16 * texture + 0.03 * _noise(own, x.shape, 45)
    mask = np.zeros_like(liver)
    if lesions:
        for _ in range(_lesion_count(own)):
            shape = _blob(own, x, y, edge > 0.12, (0.045, 0.17), 0.18)
            contrast = own.uniform(0.05, 0.1) if own.random() < 0.4 else own.uniform(0.14, 0.3)
            rim = own.choice([0.0, 0.07]) * np.exp(-((shape / 0.12) ** 2))
            grey += rim - contrast * _fade(shape, own.uniform(0.15, 0.4))
            mask |= (shape > 0) & liver
    return _equalise(grey, liver), mask


def _vessels(patient: np.random.Generator, own: np.random.Generator, size: int) -> np.ndarray:
    """Cross-sections and branches of the portal and hepatic veins, float (size, size), 0 to 1."""
    fine = 2 * size
    canvas = Image.new("L", (fine, fine))
    draw = ImageDraw.Draw(canvas)

    def branch(x: float, y: float, angle: float, length: float, width: float, level: int) -> None:
        for _ in range(3):  # a branch bends on its way
            angle += patient.normal(0, 0.16)
            end_x, end_y = x + np.cos(angle) * length / 3, y + np.sin(angle) * length / 3
            line = [(1 + x) * size, (1 + y) * size, (1 + end_x) * size, (1 + end_y) * size]
            draw.line(line, fill=255, width=max(1, round(width * size)))
            x, y = end_x, end_y
        if level:
            for turn in (patient.uniform(0.3, 0.7), -patient.uniform(0.3, 0.7)):
                branch(x, y, angle + turn, length * patient.uniform(0.65, 0.85), width * 0.68, level - 1)

    for angle in (np.pi, np.pi * 0.8, -np.pi * 0.25):
        branch(0.1, 0.02, angle + patient.normal(0, 0.1), 0.28, 0.07, 3)
    for angle in (np.pi * 0.62, np.pi * 0.85, np.pi * 0.12):
        branch(0.0, -0.42, angle + patient.normal(0, 0.1), 0.3, 0.05, 2)
    for x, y in own.uniform(-0.8, 0.7, (12, 2)):
        radius = own.uniform(0.008, 0.022)
        draw.ellipse([(1 + at) * size for at in (x - radius, y - radius, x + radius, y + radius)], fill=255)
    tree = np.asarray(canvas.resize((size, size), Image.Resampling.BOX), dtype=np.float64) / 255
    out_of_plane = _fade(_noise(own, tree.shape, 5) + 0.9, 0.5)  # a slice cuts only parts of a tree
    return gaussian_filter(tree, size / 256) * out_of_plane


def _equalise(grey: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Spreads the ranks of the pixels inside over 0 to 1; the others become 0."""
    ranks = np.empty(np.count_nonzero(inside))
    ranks[np.argsort(grey[inside], kind="stable")] = np.linspace(0.02, 1, len(ranks))
    equalised = np.zeros_like(grey)
    equalised[inside] = ranks
    return equalised


# The retina from the inner limiting membrane (0) to the pigment epithelium (1), and how bright each layer is.
_DEPTHS = (-0.04, 0.0, 0.1, 0.14, 0.36, 0.4, 0.5, 0.54, 0.6, 0.64, 0.84, 0.87, 0.9, 0.93, 1.0)
_GREYS = (0.035, 0.6, 0.62, 0.46, 0.44, 0.27, 0.26, 0.46, 0.44, 0.2, 0.2, 0.6, 0.62, 0.42, 0.45)


def retina(
    patient: np.random.Generator, own: np.random.Generator, number: int, size: int, lesions: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A B-scan of OCT; see `phantom.Painter`."""
    x, y = _grid(size // 2, size)
    across = x[0]
    bottom = patient.uniform(0.16, 0.26) - 0.16 * patient.uniform(0.2, 1) * across**2 + patient.normal(0, 0.05) * across
    bottom = bottom + 0.008 * _noise(patient, (1, size), 8)[0]
    centre = patient.normal(0, 0.15)
    pit = np.exp(-(((across - centre) / 0.16) ** 2)) * patient.uniform(0.4, 1) * (1 - 0.3 * abs(number - 61))
    thickness = patient.uniform(0.29, 0.34) - 0.13 * pit + 0.006 * _noise(patient, (1, size), 10)[0]

    mask = np.zeros(x.shape, bool)
    lift, clarity, cysts = np.zeros(size), np.ones(size), []
    if lesions:
        for _ in range(_lesion_count(own)):
            at, grey_level = own.uniform(-0.65, 0.65), own.uniform(0.09, 0.2)
            strength = own.uniform(0.3, 0.5) if own.random() < 0.4 else 1.0
            if own.random() < 0.4:  # fluid under the retina lifts it
                height, width = own.uniform(0.05, 0.13), own.uniform(0.14, 0.3)
                bump = height * np.clip(1 - ((across - at) / width) ** 2, 0, None)
                clarity = np.where(bump > lift, strength, clarity)
                lift = np.maximum(lift, bump)
            else:
                cysts += [
                    (at + own.normal(0, 0.08), own.uniform(0.35, 0.75), grey_level, strength)
                    for _ in range(own.integers(2, 5))
                ]
    swelling = sum((0.05 * np.exp(-(((across - at) / 0.1) ** 2)) for at, *_ in cysts), np.zeros(size))
    thickness = thickness + np.minimum(swelling, 0.14)

    upper = bottom - lift
    depth = 1 + (y - upper) / thickness
    grey = np.interp(depth + 0.012 * _noise(own, x.shape, 24), _DEPTHS, _GREYS)
    for at, layer, grey_level, strength in cysts:
        middle = np.interp(at, across, upper - thickness * (1 - layer))
        reach = own.uniform(0.03, 0.085), own.uniform(0.016, 0.045)
        shape = 1 - np.hypot((x - at) / reach[0], (y - middle) / reach[1]) + 0.12 * _noise(own, x.shape, 24)
        shape = np.minimum(shape, np.minimum(depth - 0.14, 0.86 - depth) * 8)
        grey += strength * (grey_level - grey) * _fade(shape, 0.25)
        mask |= shape > 0
    below = y - bottom
    under = (depth > 1) & (below < 0) & (lift > 0.01)
    grey = np.where(under, 0.1 + 0.22 * (1 - clarity), grey)
    mask |= under
    epithelium = np.exp(-(((below - 0.012) / 0.016) ** 2))
    choroid = 0.42 * np.exp(-np.clip(below, 0, None) / 0.1) * (1 + 0.25 * _noise(own, x.shape, 18))
    grey = np.where(below > 0, choroid, grey)
    grey = np.maximum(grey, 0.85 * epithelium)
    for at in patient.uniform(-1, 1, 5):  # vessels cast shadows on what lies below them
        shadow = np.exp(-(((x - at) / patient.uniform(0.012, 0.03)) ** 2)) * _fade(depth - 0.08, 0.06)
        grey = grey * (1 - 0.45 * shadow)
    grey *= 1 + 0.12 * _noise(own, (1, size), 4)
    speckle = gaussian_filter(own.gamma(2.2, 1 / 2.2, x.shape), (0.35 * size / 256, 0.6 * size / 256))
    return np.sqrt(np.clip(grey * speckle, 0, None)) * 0.85 + 0.02 * own.standard_normal(x.shape), mask


def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates x and y of the pixels' centres, float (H, W), in units of half the width."""
    x = (np.arange(width) + 0.5) * 2 / width - 1
    y = (np.arange(height) + 0.5) * 2 / width - height / width
    return np.meshgrid(x, y)


def _noise(rng: np.random.Generator, shape: tuple[int, ...], cells: int) -> np.ndarray:
    """Smooth noise of about unit variance, with so many independent values across the width; float (H, W)."""
    height, width = shape
    down = max(1, round(cells * height / width))
    coarse = rng.standard_normal((down + 1, cells + 1)).astype(np.float32)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(smooth, dtype=np.float64) * 1.4


def _outline(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, amount: float) -> np.ndarray:
    """The factor by which a radius is multiplied, so that an ellipse is not a perfect one."""
    angle = np.arctan2(y, x)
    waves = [rng.normal(0, amount) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in range(2, 6)]
    return 1 + np.sum(waves, axis=0)


def _fade(value: np.ndarray, width: float) -> np.ndarray:
    """0 below 0, 1 above the width, smooth between."""
    part = np.clip(value / width, 0, 1)
    return part * part * (3 - 2 * part)


def _lesion_count(rng: np.random.Generator) -> int:
    return int(rng.choice([1, 2, 3], p=[0.55, 0.3, 0.15]))


def _blob(
    rng: np.random.Generator,
    x: np.ndarray,
    y: np.ndarray,
    allowed: np.ndarray,
    radii: tuple[float, float],
    roughness: float,
) -> np.ndarray:
    """An irregular shape around a random allowed pixel: above 0 inside, 1 at its centre."""
    centre = rng.choice(np.flatnonzero(allowed))
    radius = radii[0] * (radii[1] / radii[0]) ** rng.random()
    stretch, turn = rng.uniform(0.7, 1.0), rng.uniform(0, np.pi)
    dx, dy = x - x.flat[centre], y - y.flat[centre]
    along, beside = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    distance = np.hypot(along, beside / stretch) / radius
    return 1 - distance - roughness * _noise(rng, x.shape, 18) * np.clip(distance, 0, 1)
