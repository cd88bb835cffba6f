"""
SPEC -> PLAN -> PROCESS -> RESULT: what is wanted becomes what runs.

`rootfs` finds the files, `users` the numbers behind names, `compile` decides, `sandbox`
and `process` hold what runs, `verdict` says why it ended.
"""
