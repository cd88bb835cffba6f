"""
Images and the network: pull, push and copy, by the distribution specification.

Floor of the store: it hands bytes over through a small protocol (`transfer`) and knows
no directory. What is decided (`address`, `challenge`, `retry`) touches nothing; what
touches the network (`http`, `pace`) decides nothing.

`client.Client` speaks the verbs of a registry, `transfer` moves whole images.
"""
