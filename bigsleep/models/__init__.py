"""Models: BigGAN generators, CLIP perceptors, and where their weights come from."""
