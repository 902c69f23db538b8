"""The image backbone that is trained from scratch encodes patches, and its augmentation varies them."""

import torch

from qarm_features.encoders.patch_transformer import PatchTransformer, augment_images


def test_patches_become_tokens_of_the_dim_and_positions_matter():
    torch.manual_seed(0)
    backbone = PatchTransformer(dim=32, image_size=32).eval()
    flat = torch.zeros(1, 3, 32, 32)

    tokens = backbone(flat)

    assert tokens.shape == (1, 16, 32)
    assert not torch.allclose(tokens[0, 5], tokens[0, 6], atol=1e-4)


def test_the_default_is_small():
    assert 1_000_000 < sum(p.numel() for p in PatchTransformer().parameters()) < 2_000_000


def test_augmenting_stays_in_range_and_mirrors_half():
    torch.manual_seed(0)
    image = torch.zeros(3, 32, 32)
    image[0, :, :16] = 1
    images = augment_images(image.repeat(64, 1, 1, 1))

    assert images.shape == (64, 3, 32, 32)
    assert images.min() >= 0 and images.max() <= 1
    red_left = images[:, 0, :, :4].mean((1, 2)) > images[:, 0, :, -4:].mean((1, 2))
    assert 16 < red_left.sum() < 48  # about half are mirrored


def test_augmenting_differs_from_image_to_image():
    torch.manual_seed(0)

    images = augment_images(torch.rand(1, 3, 16, 16).repeat(32, 1, 1, 1))

    assert images.flatten(1).unique(dim=0).shape[0] == 32


def test_a_gray_image_stays_gray():
    images = augment_images(torch.full((8, 3, 16, 16), 0.5))

    torch.testing.assert_close(images.amax((1, 2, 3)), images.amin((1, 2, 3)))
