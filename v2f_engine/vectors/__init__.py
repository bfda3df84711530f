"""Identity vectors: where they come from, what keeps them apart, and the many vectors of one identity.

gate, npy       the one check for vectors from outside; files opened without trust
statistics      mean and covariance of real features, fitted in a stream
labelled        the same of groups of people, by a label column
sources         candidate streams: a function of (seed, index), bit-equal on every machine
sampling        sample_identities: candidates, exclusion, greedy rejection -> identities
growth          extend_identities: a finished table goes on; growth_plan foresees its new part
mix, filling    groups in asked shares, place by place
acceptance      how many candidates survive, as formulas
pilot, planner  what a request costs and whether it can be met, before it runs; mix_plan by each group's own law
rejection       greedy, in order, on the CPU or a GPU
separability    the published measure
calibration     thresholds from a false-match rate
exclusion       real people that no identity may resemble
packing         moved apart after rejection, held where their source draws people; packing_plan foresees it
perturbation    many vectors around one identity: a table of forms, their contract beside it, a file a further form
nearest         each identity's nearest other one, for a guarded cone; nearest_plan foresees it
within          how images of one person differ, for a perturbation by covariance
plots           saturation and separability as PNG
"""
