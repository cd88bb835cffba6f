"""
Images on the disk of this machine: bytes, layers, images, names.

The store is a directory that processes share without a daemon. What is in it is
addressed by content, visible only by its record, and durable before its record. It
knows nothing of networks, and starts nothing but the unpacking of layers.
"""
