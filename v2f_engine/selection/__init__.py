"""Of m images of a person the k best, by criteria with names.

    from v2f_engine.selection.chosen_set import select_dataset
    from v2f_engine.selection.rule import Rule

    select_dataset("made", "chosen", Rule(keep=50, by=("centre",)), recogniser="mini")

criteria    a person's images to scores, in float64, and which images count as one
rule        how many, by which criteria, what is passed over; and the choice that follows
judges      the networks that read images, in calls of one size
chosen_set  `v2f select`: a set of the chosen images of another set
"""
