"""Systems that the papers compare MACH with, each run by its own library in its trial's process.

They come with the extra `peers`. A peer is a :class:`baselines.peers.peer.Peer` and a card; what is
measured, and how, is the same for all of them: `baselines.peers.process`.
"""
