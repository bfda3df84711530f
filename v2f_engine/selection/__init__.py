"""Of m images of a person the k best, by criteria with names.

    import v2f_engine as v2f

    v2f.select_dataset("made", "chosen", v2f.Rule(keep=50, by=("centre",)))

criteria    a person's images to scores, in float64, and which images count as one
rule        how many, by which criteria, what is passed over; and the choice that follows
judges      the networks that read images, in calls of one size
chosen_set  `v2f select`: a set of the chosen images of another set; its work: selection_job
"""
