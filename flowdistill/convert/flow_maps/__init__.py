"""What is written beside weights, so that diffusers runs a flow map.

The modules are copied into folders, and know diffusers and PyTorch alone.
"""
