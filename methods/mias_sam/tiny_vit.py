"""LiteMedSAM's image encoder: the same function of the same weights, computed in less time and memory.

The architecture is TinyViT (Wu et al., "TinyViT: Fast Pretraining Distillation for Small Vision Transformers",
ECCV 2022): a stage of inverted bottlenecks, then stages of blocks that attend within windows. Between stages, a
bottleneck without a residual merges patches: it halves rows and columns, or only changes the channels.

What costs time in a literal implementation is memory: on CPUs the page faults of every large temporary, the change
between an image's layout and a list's, and batch norms and activations that each read and write all pixels. Here tokens
are always (B, H, W, C), so that a 1 x 1 convolution is a matrix product; batch norms are folded into the weights before
them; activations are in place; and temporaries stay small: a band of rows at a time.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from .vit import cast

# Numbers in the largest temporary of a band on a CPU: 4 MiB, as much as its caches hold. GPUs take all rows at once.
_BAND = 2**20


class FastTinyViT(nn.Module):
    """A drop-in replacement of LiteMedSAM's `TinyViT`, for inference.

    It takes the encoder over: float32 weights are shared, not copied, so do not train or move the encoder afterwards.

    Args:
        encoder: With its weights loaded.
        precision: The precision of attention, of the linear layers around it, and of the neck's convolutions. The
            stem, the bottlenecks, the depthwise convolutions, layer norms and residuals are always float32: in
            bfloat16, the first three alone would change anomaly maps by 1 to 2 % each, and all of these layers together
            need a quarter of the arithmetic.

    Attributes:
        img_size: Width of the square input in pixels, as the encoder's.
    """

    def __init__(self, encoder: Any, precision: Literal["float32", "bfloat16"] = "float32") -> None:
        super().__init__()
        dtype = torch.float32 if precision == "float32" else torch.bfloat16
        self.img_size: int = encoder.img_size
        self.stem = nn.ModuleList(_pointwise(encoder.patch_embed.seq[index]) for index in (0, 2))
        stages: list[nn.Module] = []
        for number, layer in enumerate(encoder.layers):
            stages += [_Block(block, dtype) if number else _Bottleneck(block, residual=True) for block in layer.blocks]
            if layer.downsample is not None:
                stages.append(_Bottleneck(layer.downsample, residual=False))
        self.stages = nn.Sequential(*stages)
        project, self.norm1, convolve, self.norm2 = encoder.neck
        self.project, self.convolve = cast(project, dtype), cast(convolve, dtype)

    @torch.inference_mode()
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features, float32 (B, 256, S / 4, S / 4), of pixels from 0 to 1, float32 (B, 3, S, S)."""
        first, second = self.stem
        tokens = second(_gelu(first(pixels.permute(0, 2, 3, 1).contiguous())))
        return self._neck(self.stages(tokens))

    def _neck(self, tokens: torch.Tensor) -> torch.Tensor:
        for convolution, norm in ((self.project, self.norm1), (self.convolve, self.norm2)):
            tokens = _convolve(convolution, tokens)
            tokens = F.layer_norm(tokens, tokens.shape[-1:], norm.weight, norm.bias, norm.eps)
        return tokens.permute(0, 3, 1, 2)


class _Bottleneck(nn.Module):
    """Expands the channels, convolves each one over its neighbours, and projects: (B, H, W, C) to (B, h, w, c).

    Args:
        block: The literal one, MBConv or PatchMerging, from which the weights come.
        residual: Whether the input is added at the end, and an activation follows, as in MBConv.
    """

    def __init__(self, block: Any, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.expand, self.depthwise, self.project = _pointwise(block.conv1), block.conv2.fuse(), _pointwise(block.conv3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        stride = self.depthwise.stride[0]
        height, width = tokens.shape[1] // stride, tokens.shape[2] // stride
        out = tokens.new_empty(len(tokens), height, width, self.project.out_features)
        rows = _rows_of_a_band(tokens, stride * self.expand.out_features)
        for top in range(0, height, rows):
            self._fill(out[:, top : top + rows], tokens, top)
        return out

    def _fill(self, band: torch.Tensor, tokens: torch.Tensor, top: int) -> None:
        """Computes the band of the output that begins with row `top`."""
        stride, rows = self.depthwise.stride[0], band.shape[1]
        # The first row depends on tokens above the band, and with stride 1 the last one on tokens below. Rows of
        # output for these are computed too, and left out.
        above, below = min(top, 1), int(stride == 1)
        hidden = _gelu(self.expand(tokens[:, stride * (top - above) : stride * (top + rows) + below]))
        hidden = _gelu(_convolve(self.depthwise, hidden)[:, above : above + rows])
        projected = self.project(hidden)
        if self.residual:
            _gelu(torch.add(projected, tokens[:, top : top + rows], out=band))
        else:
            band.copy_(projected)


class _Block(nn.Module):
    """Attention within windows, a depthwise convolution, and a perceptron: (B, H, W, C) to the same shape.

    Args:
        block: The literal one, from which the weights come.
        dtype: The type of linear layers and attention.
    """

    bias: torch.Tensor

    def __init__(self, block: Any, dtype: torch.dtype) -> None:
        super().__init__()
        attention, perceptron = block.attn, block.mlp
        self.dtype = dtype
        self.heads: int = attention.num_heads
        self.window: int = block.window_size
        self.norm1, self.norm2 = attention.norm, perceptron.norm
        self.qkv, self.proj = cast(attention.qkv, dtype), cast(attention.proj, dtype)
        self.depthwise = block.local_conv.fuse()
        self.lin1, self.lin2 = cast(perceptron.fc1, dtype), cast(perceptron.fc2, dtype)
        bias = attention.attention_biases.detach()[:, attention.attention_bias_idxs]
        self.register_buffer("bias", bias.to(dtype))  # (heads, S * S, S * S) for windows of S rows and columns

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        # The first change is in place: the tokens are the output of the module before this one.
        rows = _rows_of_a_band(tokens, self.qkv.out_features, self.window)
        for band in tokens.split(rows, dim=1):
            band += self._attend(self.norm1(band).to(self.dtype))
        tokens = _convolve(self.depthwise, tokens)
        for band in tokens.split(_rows_of_a_band(tokens, self.lin1.out_features), dim=1):
            band += self.lin2(_gelu(self.lin1(self.norm2(band).to(self.dtype))))
        return tokens

    def _attend(self, band: torch.Tensor) -> torch.Tensor:
        """Attends within each window of a band, (B, h, W, C), to the same shape.

        What windows lack at the image's edges takes part in attention. It was zeros before the layer norm, which makes
        its bias of them.
        """
        images, height, width, channels = band.shape
        side = self.window
        down, across = -(-height // side), -(-width // side)
        padded = self.norm1.bias.to(self.dtype).repeat(images, down * side, across * side, 1)
        padded[:, :height, :width] = band
        windows = padded.view(images, down, side, across, side, channels).transpose(2, 3).reshape(-1, side**2, channels)
        q, k, v = self.qkv(windows).unflatten(-1, (self.heads, 3, -1)).permute(3, 0, 2, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=self.bias).transpose(1, 2)
        attended = attended.reshape(images, down, across, side, side, channels).transpose(2, 3)
        band = attended.reshape(images, down * side, across * side, channels)[:, :height, :width]
        return self.proj(band.contiguous())


def _pointwise(layer: Any) -> nn.Linear:
    """A 1 x 1 convolution and the batch norm after it as a linear layer over the channels."""
    convolution: nn.Conv2d = layer.fuse()
    linear = nn.Linear(convolution.in_channels, convolution.out_channels, device="meta")
    linear.load_state_dict({"weight": convolution.weight.flatten(1), "bias": convolution.bias}, assign=True)
    return linear


def _convolve(convolution: nn.Conv2d, tokens: torch.Tensor) -> torch.Tensor:
    """Convolves tokens, (B, H, W, C), in the convolution's precision; float32."""
    return convolution(tokens.to(convolution.weight.dtype).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).float()


def _gelu(hidden: torch.Tensor) -> torch.Tensor:
    """The activation, exact, in place."""
    return torch.ops.aten.gelu_(hidden)


def _rows_of_a_band(tokens: torch.Tensor, channels: int, multiple: int = 1) -> int:
    """Rows of tokens, (B, H, W, C), that are handled at once when each token becomes so many channels."""
    _, height, width, _ = tokens.shape
    rows = height if tokens.device.type != "cpu" else _BAND // (width * channels)
    return multiple * max(1, rows // multiple)
