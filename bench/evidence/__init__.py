"""What the promotion rule does on made and real streams: `python -m bench.evidence`.

How often a challenger that is no better is promoted, how long a better one waits, and what happens after a wrong
promotion. The rule is the shipped one: decisions come from functions of `retrain.evidence`; numpy only sums what they
would sum and leaves out looks at which a bound says that they cannot decide.

    pools       rows of (outcome, champion's score, challenger's score) with a known truth, drawn from with replacement
    paths       sums of a stream at every look, and the first look at which condition one holds
    days        shocks that the rows of a day share; real_days: those of flights and of elec2
    reigns      both conditions on such days
    parts       the parts of a run by name, each a list of rows of one table: process, claim, limit, measured, streams
"""
