"""The autoresearch loop: an agent proposes experiments, the queue measures them, code decides.

See docs/autoresearch.md.
`Campaign = fold(events)`; `next_actions(campaign, now)` says what to do; `loop` does it.
"""
