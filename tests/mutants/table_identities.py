"""Faults of people and of vectors around them: cones, covariances, packing, mixes, groups, tables that go on."""

from __future__ import annotations

from mutant import Mutant

VECTORS, TESTS = "v2f_engine/vectors", "tests/vectors"
CONE, WITHIN = f"{TESTS}/test_perturbation_cone.py", f"{TESTS}/test_within.py"
PERTURBED = "tests/test_perturbed_generation.py"
PACKING, PLANS = f"{TESTS}/test_packing.py", f"{TESTS}/test_work_plans.py"
MIX, LABELLED, GROWTH = f"{TESTS}/test_mix.py", f"{TESTS}/test_labelled.py", f"{TESTS}/test_growth.py"

MUTANTS = [
    Mutant(
        "the cone's guard is at the nearest other itself, not half-way",
        f"{VECTORS}/perturbation_cone.py",
        "np.sqrt((1 + self.nearest.cosine[self.nearest.places(identity)]) / 2)",
        "self.nearest.cosine[self.nearest.places(identity)]",
        (f"{CONE}::test_the_guard_holds_in_few_dimensions",),
    ),
    Mutant(
        "the cone takes the wider of its two bounds",
        f"{VECTORS}/perturbation_cone.py",
        "return np.maximum(self.lowest,",
        "return np.minimum(self.lowest,",
        (f"{CONE}::test_the_guard_holds_in_few_dimensions",),
    ),
    Mutant(
        "the guard is another identity's where keys are not in order",
        f"{VECTORS}/nearest.py",
        "cosine[order], hashes[order]",
        "cosine, hashes[order]",
        (f"{PERTURBED}::test_keys_need_not_be_rows",),
    ),
    Mutant(
        "a table of as many rows is taken for the one asked last",
        f"{VECTORS}/nearest.py",
        "np.array_equal(last[0], hashes)",
        "len(last[0]) == len(hashes)",
        (f"{CONE}::test_the_cosines_of_a_table_are_computed_once",),
    ),
    Mutant(
        "images of one person all go one way",
        f"{VECTORS}/perturbation_cone.py",
        "Purpose.CONE_DIRECTION, people[part], pictures[part],",
        "Purpose.CONE_DIRECTION, people[part], 0 * pictures[part],",
        (f"{CONE}::test_an_image_is_that_of_a_float64_loop",),
    ),
    Mutant(
        "a part of a run is told of that part of the table alone",
        "v2f_engine/pipeline/draws.py",
        "images.perturbation.over(vectors, keys, rows)",
        "images.perturbation.over(vectors[rows], keys[rows])",
        (f"{PERTURBED}::test_a_part_of_a_run_has_the_bounds_of_the_whole_table",),
    ),
    Mutant(
        "a vector moved by a covariance keeps its new length",
        f"{VECTORS}/perturbation_covariance.py",
        "vectors[part] = moved * ratio[:, None]",
        "vectors[part] = moved",
        (f"{WITHIN}::test_an_image_is_that_of_a_float64_loop",),
    ),
    Mutant(
        "a within-person covariance divides by images, not by images less people",
        f"{VECTORS}/within.py",
        "images - people + 1",
        "images + 1",
        (f"{WITHIN}::test_it_is_that_of_a_loop_over_people",),
    ),
    Mutant(
        "the set does not get what its perturbation was measured as",
        "v2f_engine/pipeline/generation.py",
        "beside[PERTURBATION] = lambda: held",
        "pass",
        (f"{PERTURBED}::test_a_measured_covariance_goes_with_the_set",),
    ),
    Mutant(
        "packing gives the last arrangement that is better than the start, not the best",
        f"{VECTORS}/packing_steps.py",
        "if point.worst < lowest and",
        "if point.worst < first.worst and",
        (f"{PACKING}::test_the_best_arrangement_seen_comes_back_and_the_pull_fades",),
    ),
    Mutant(
        "packing gives what is worse by the exact cosines",
        f"{VECTORS}/packing.py",
        "if after.max() > before.max() or after.mean() > before.mean():",
        "if False:",
        (f"{PACKING}::test_what_only_rounded_cosines_call_better_is_not_given",),
    ),
    Mutant(
        "the pull pushes",
        f"{VECTORS}/packing_steps.py",
        "rows += (self.pull * faded)",
        "rows -= (self.pull * faded)",
        (f"{PACKING}::test_a_step_is_what_a_plain_loop_makes_of_the_formulas",),
    ),
    Mutant(
        "the pull never fades",
        f"{VECTORS}/packing_steps.py",
        "self._step(near, 1 - (step - 1) / self.steps)",
        "self._step(near, 1.0)",
        (f"{PACKING}::test_the_best_arrangement_seen_comes_back_and_the_pull_fades",),
    ),
    Mutant(
        "the drift has no limit",
        f"{VECTORS}/packing_steps.py",
        "9) > self.max_drift:",
        "9) > np.inf:",
        (f"{PACKING}::test_it_stays_where_the_source_draws",),
    ),
    Mutant(
        "the drift is limited in lengths, not in spreads",
        f"{VECTORS}/packing_steps.py",
        "max_drift * likely.spread",
        "max_drift * 1.0",
        (f"{PACKING}::test_a_drift_is_counted_in_spreads_of_one_candidate",),
    ),
    Mutant(
        "whoever comes to resemble an excluded person may stay there",
        f"{VECTORS}/packing_steps.py",
        "self.stay |= ~passing",
        "self.stay |= False",
        (f"{PACKING}::test_an_excluded_person_stays_excluded",),
    ),
    Mutant(
        "the remainder of a mix goes to whoever is ahead",
        f"{VECTORS}/mix.py",
        "-(-person * total // parts[group])",
        "-person * total // parts[group]",
        (f"{MIX}::test_every_beginning_has_each_share_rounded_down_or_up",),
    ),
    Mutant(
        "a group of a mix may stand a place too early",
        f"{VECTORS}/mix.py",
        "(person * total // parts[group] + 1, group, person + 1)",
        "(person * total // parts[group], group, person + 1)",
        (f"{MIX}::test_every_beginning_has_each_share_rounded_down_or_up",),
    ),
    Mutant(
        "a pooled covariance fits one mean, not one a group",
        f"{VECTORS}/labelled.py",
        "- len(moments) + 1  # one mean a group",
        "  # one mean a group",
        (f"{LABELLED}::test_a_pooled_covariance_is_that_about_each_groups_mean",),
    ),
    Mutant(
        "a mix does not reach the engine",
        "v2f_engine/pipeline/engine.py",
        "mix=mix,",
        "",
        ("tests/test_groups_generated.py::test_the_engine_samples_in_the_mix_that_it_is_given",),
    ),
    Mutant(
        "a table goes on at the candidate that is its last identity",
        f"{VECTORS}/sampling.py",
        "int(candidate[-1]) + 1\n        recent",
        "int(candidate[-1])\n        recent",
        (f"{GROWTH}::test_extended_is_made_at_once",),
    ),
    Mutant(
        "a table goes on in another stream",
        f"{VECTORS}/growth.py",
        'seed=told["seed"],',
        "seed=0,",
        (f"{GROWTH}::test_extended_is_made_at_once",),
    ),
    Mutant(
        "new people keep another distance from real ones",
        f"{VECTORS}/growth.py",
        'exclude_cosine=None if excluded is None else excluded["cosine"],',
        "exclude_cosine=None,",
        (f"{GROWTH}::test_extended_is_made_at_once",),
    ),
    Mutant(
        "the plan of an extension leaves the handling of the table out",
        f"{VECTORS}/growth_plan.py",
        "seconds = handling + new /",
        "seconds = new /",
        (f"{GROWTH}::test_the_plans_seconds_are_the_sum_of_their_parts",),
    ),
    Mutant(
        "the plan of an extension compares nobody with real people",
        f"{VECTORS}/growth_plan.py",
        "/ 2 + new * excluded",
        "/ 2",
        (f"{GROWTH}::test_the_plans_seconds_are_the_sum_of_their_parts",),
    ),
]
