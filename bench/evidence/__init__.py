"""What the promotion rule does on made and real streams: `python -m bench.evidence`.

How often a challenger that is no better is promoted, how long a better one waits, and what happens after a wrong
promotion. The rule is the shipped one: decisions come from functions of `retrain.evidence`; numpy only sums what they
would sum, and leaves out looks at which a bound says that they cannot decide. Every part holds some of its streams
against `judge` over `sums_of`.

    pools          rows of (outcome, champion's score, challenger's score) with a known truth, drawn with replacement
    paths          sums of a stream at every look, and the first look at which condition one holds
    days           shocks that the rows of a day share; real_days: those of flights and of elec2
    reigns         both conditions on such days

    equal_streams  T1, T2: equal versions, unlimited looks        day_streams  T3: days that share shocks
    gain_streams   T4: how long a better challenger waits         rollbacks    T5: probation and the detector
    replays        T6: order, shards, deliveries                  delays       T9: outcomes that come late
    rewards        T10: recommendations by logged chances

    effort, table  how many streams; what a line of the table says, and how surely
"""
