"""
What is wanted: pure values, comparable, picklable and printable.

Nothing here opens, reads or starts anything, and nothing imports ``os``, ``io``,
``socket``, ``subprocess`` or ``threading``: a value can be made on any machine, sent
to another one, and looked at without rights. What the kernel is told about it is
decided in `jailbox.run.compile`.
"""
