"""Faults of people and of vectors around them: cones, covariances, packing, mixes, groups, tables that go on."""

from __future__ import annotations

from mutant import Mutant

VECTORS, TESTS = "v2f_engine/vectors", "tests/vectors"
CONE, WITHIN = f"{TESTS}/test_perturbation_cone.py", f"{TESTS}/test_within.py"
PACKING = f"{TESTS}/test_packing.py"
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
        "images of one person all go one way",
        f"{VECTORS}/perturbation_cone.py",
        "Purpose.CONE_DIRECTION, people[part], pictures[part],",
        "Purpose.CONE_DIRECTION, people[part], 0 * pictures[part],",
        (f"{CONE}::test_an_image_is_that_of_a_float64_loop",),
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
        "a table goes on at the candidate that is its last identity",
        f"{VECTORS}/sampling.py",
        "int(candidate[-1]) + 1\n        recent",
        "int(candidate[-1])\n        recent",
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
