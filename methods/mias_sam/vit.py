"""SAM's image encoder: the same function of the same weights, computed in less time and memory.

The architecture is the plain ViT of ViTDet (Li et al., "Exploring Plain Vision Transformer Backbones for Object
Detection", ECCV 2022): most blocks attend within windows, a few attend globally. Both add decomposed relative positions
to the attention's logits (Li et al., "MViTv2", CVPR 2022, section 4.1).

What costs time in a literal implementation is attention matrices of hundreds of megabytes, and on CPUs the page faults
of every large temporary. Here attention is torch's fused kernel, and temporaries stay small: a band of rows at a time.
"""

from copy import deepcopy
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from segment_anything.modeling.image_encoder import Block as SamBlock
from segment_anything.modeling.image_encoder import ImageEncoderViT
from torch import nn

from ...harness.api import UsageError

# Rows of tokens that a global block handles at once. At 1024 pixels these are 1024 queries, whose mask has 16 MiB at
# float32. torch's CPU kernel takes small blocks, and is slow, for fewer than 768 queries.
_BAND = 16

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


class FastViT(nn.Module):
    """A drop-in replacement of segment-anything's `ImageEncoderViT`, for inference.

    It takes the encoder over: float32 weights are shared, not copied, so do not train or move the encoder afterwards.

    Args:
        encoder: With its weights loaded and relative positions in use, as in SAM ViT-B, -L and -H.
        precision: The precision of linear layers and attention. Residuals, layer norms, the patch embedding and the
            neck are always float32, and so are sums inside attention. With "bfloat16" the linear
            layers' weights are copied once.
        input_size: Width of the square input in pixels, a multiple of the patch size. For sizes other than the
            encoder's own, absolute positions are interpolated (bicubic, antialiased), and so are the relative positions
            of global blocks (linear, as segment-anything does).

    Attributes:
        img_size: `input_size`, under the name that `ImageEncoderViT` gives it.

    Raises:
        UsageError: If the precision is unknown or the input size is not a multiple of the patch size.
    """

    def __init__(
        self,
        encoder: ImageEncoderViT,
        precision: Literal["float32", "bfloat16"] = "float32",
        input_size: int = 1024,
    ) -> None:
        super().__init__()
        patch = int(encoder.patch_embed.proj.stride[0])
        if precision not in ("float32", "bfloat16"):
            raise UsageError(f"precision is {precision!r}; it must be float32 or bfloat16")
        if input_size < patch or input_size % patch:
            raise UsageError(f"input_size is {input_size}; it must be a multiple of {patch}, the size of SAM's patches")
        self.img_size = input_size
        grid = input_size // patch
        dtype = torch.float32 if precision == "float32" else torch.bfloat16
        assert encoder.pos_embed is not None
        self.register_buffer("position", _resized(encoder.pos_embed.detach(), grid))
        self.patch_embed = encoder.patch_embed.proj
        self.blocks = nn.ModuleList(_Block(block, grid, dtype) for block in encoder.blocks)  # pyright: ignore[reportArgumentType]
        self.neck = encoder.neck

    @torch.inference_mode()
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features, float32 (B, 256, S / 16, S / 16), of standardised pixels, float32 (B, 3, S, S)."""
        # Contiguous, as every layer norm below would otherwise copy a transposed image.
        tokens = (self.patch_embed(pixels).permute(0, 2, 3, 1) + self.position).contiguous()
        for block in self.blocks:
            block(tokens)
        return self.neck(tokens.permute(0, 3, 1, 2))


class _Block(nn.Module):
    """Attention and a perceptron, each after a layer norm and added to its input.

    Args:
        block: segment-anything's, from which the weights come.
        grid: Rows and columns of tokens in the image.
        dtype: The type of linear layers and attention.
    """

    relative_rows: torch.Tensor
    relative_columns: torch.Tensor

    def __init__(self, block: SamBlock, grid: int, dtype: torch.dtype) -> None:
        super().__init__()
        attention = block.attn
        self.dtype = dtype
        self.heads = attention.num_heads
        self.window = block.window_size  # 0: attends globally
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.qkv, self.proj = cast(attention.qkv, dtype), cast(attention.proj, dtype)
        self.lin1, self.lin2 = cast(block.mlp.lin1, dtype), cast(block.mlp.lin2, dtype)
        side = self.window or grid
        self.register_buffer("relative_rows", _relative(attention.rel_pos_h.detach(), side))
        self.register_buffer("relative_columns", _relative(attention.rel_pos_w.detach(), side))

    def forward(self, tokens: torch.Tensor) -> None:
        """Changes tokens, float32 (B, H, W, C), in place."""
        if not self.window:
            tokens += self._attend_globally(self.norm1(tokens).to(self.dtype))
        # A band of windows depends on no other band, and neither does the perceptron.
        for band in tokens.split(self.window or _BAND, dim=1):
            if self.window:
                band += self._attend_in_windows(self.norm1(band).to(self.dtype))
            hidden = self.lin1(self.norm2(band).to(self.dtype))
            band += self.lin2(torch.ops.aten.gelu_(hidden))

    def _attend_in_windows(self, band: torch.Tensor) -> torch.Tensor:
        """Attends within each window of a band of at most one window's height, (B, h, W, C), to the same shape.

        What windows lack at the image's edges is filled with zeros, which take part in attention as in SAM.
        """
        images, height, width, channels = band.shape
        side = self.window
        count = -(-width // side)
        band = F.pad(band, (0, 0, 0, count * side - width, 0, side - height))
        windows = band.view(images, side, count, side, channels).transpose(1, 2).reshape(-1, side * side, channels)
        q, k, v = self.qkv(windows).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        rows, columns = self._relative_logits(q)
        mask = (rows[..., :, None] + columns[..., None, :]).flatten(-2)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)
        band = attended.reshape(images, count, side, side, channels).transpose(1, 2).flatten(2, 3)
        return self.proj(band[:, :height, :width])

    def _attend_globally(self, tokens: torch.Tensor) -> torch.Tensor:
        """Attends to the whole image, (B, H, W, C) to the same shape, a head and a band of queries at a time."""
        images, height, width, _ = tokens.shape
        weights, biases = self.qkv.weight.chunk(3), self.qkv.bias.chunk(3)
        q, k, v = (  # three outputs, as one of 37 MiB would be returned to the system, and faulted in, every time
            F.linear(tokens.flatten(1, 2), weight, bias).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for weight, bias in zip(weights, biases, strict=True)
        )
        rows, columns = self._relative_logits(q)
        attended = torch.empty_like(tokens).view(images, height * width, self.heads, -1)
        mask = rows.new_empty(images, 1, _BAND * width, height, width)
        for head in range(self.heads):
            one = slice(head, head + 1)
            for start in range(0, height * width, _BAND * width):
                part = slice(start, min(start + _BAND * width, height * width))
                bias = mask[:, :, : part.stop - start]
                torch.add(rows[:, one, part, :, None], columns[:, one, part, None, :], out=bias)
                attended[:, part, head] = F.scaled_dot_product_attention(
                    q[:, one, part], k[:, one], v[:, one], attn_mask=bias.flatten(-2)
                )[:, 0]
        return self.proj(attended.view_as(tokens))

    def _relative_logits(self, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Relative positions' part of the logits: for a query (y, x) and a key (v, u), rows[v] + columns[u].

        Args:
            q: Queries, (B, heads, S * S, D), of an image or window of S rows and columns, not scaled.

        Returns:
            Rows and columns, each (B, heads, S * S, S): the query times the embedding of y - v, and of x - u. They are
            float32 on a CPU, which halves the error of bfloat16 features where relative positions weigh much; elsewhere
            they have the type of the queries, as fused kernels ask for.
        """
        dtype = torch.float32 if q.device.type == "cpu" else q.dtype
        side = len(self.relative_rows)
        q = q.to(dtype).unflatten(2, (side, side))
        rows = q @ self.relative_rows.to(dtype).mT
        columns = (q.transpose(2, 3) @ self.relative_columns.to(dtype).mT).transpose(2, 3)
        return rows.flatten(2, 3), columns.flatten(2, 3)


def cast(layer: Layer, dtype: torch.dtype) -> Layer:
    """The layer itself if it has this dtype, otherwise a copy that has it."""
    return layer if layer.weight.dtype == dtype else deepcopy(layer).to(dtype).requires_grad_(False)


def _resized(position: torch.Tensor, grid: int) -> torch.Tensor:
    """Absolute positions, (1, H, W, C), of another grid."""
    if position.shape[1] == grid:
        return position
    channels_first = position.permute(0, 3, 1, 2)
    return F.interpolate(channels_first, (grid, grid), mode="bicubic", antialias=True).permute(0, 2, 3, 1).contiguous()


def _relative(table: torch.Tensor, side: int) -> torch.Tensor:
    """Embeddings of every query's offset to every key along an axis, (side, side, D), from a table, (2 * S - 1, D)."""
    if len(table) != 2 * side - 1:
        table = F.interpolate(table.T[None], 2 * side - 1, mode="linear")[0].T
    place = torch.arange(side, device=table.device)
    return table[place[:, None] - place + side - 1]
