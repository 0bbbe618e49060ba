"""Facts about models: what exists, what may be loaded, who plays, who decided. No web, no statistics.

Invariants, each held in one place:
    a version's bytes never change                      artifacts: named by digest, re-hashed on every read
    nothing is loaded that a limited child has not      admission
    one champion a generation, generations have no gap  decisions: compare-and-swap on the generation
    a change of the lineup and its audit row are one    decisions: in the transaction of the store
    a role changes only as the table says               roles
    whoever must agree has agreed, to what was seen     consent, proposals
    what was rolled back plays no more by itself        bars
    what is stored is what the audit tells              verification
"""
