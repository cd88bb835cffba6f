"""
The kernel, typed: obeys plans and reports what was refused, never decides.

What is wanted belongs to `jailbox.spec`; how a wish becomes a plan belongs to
`jailbox.run`.
"""
