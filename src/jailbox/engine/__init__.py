"""
Where jails run: the seam between what users hold and what a kernel does.
"""
