"""Faults of images chosen among others, and of groups measured alone."""

from __future__ import annotations

from mutant import Mutant

SELECTION, ENGINE = "v2f_engine/selection", "v2f_engine/pipeline"
CRITERIA, SET = "tests/selection/test_criteria.py", "tests/selection/test_chosen_set.py"
MADE, GROUPS = "tests/selection/test_made_and_chosen.py", "tests/evaluate/test_by_group.py"

MUTANTS = [
    Mutant(
        "of equal images the later is kept",
        f"{SELECTION}/criteria.py",
        "np.lexsort((self.images, -self._scored(score), self.tier))",
        "np.lexsort((-self.images, -self._scored(score), self.tier))",
        (f"{CRITERIA}::test_both_of_two_are_as_near_and_the_first_is_kept",),
    ),
    Mutant(
        "the worst images are kept",
        f"{SELECTION}/rule.py",
        "person.ranked(-places.astype(np.float64))",
        "person.ranked(places.astype(np.float64))",
        (f"{CRITERIA}::test_two_criteria_are_put_together_by_their_places",),
    ),
    Mutant(
        "images above the least cosine are passed over",
        f"{SELECTION}/criteria.py",
        "compared(self.to_centre) < self.min_cosine",
        "compared(self.to_centre) > self.min_cosine",
        (f"{CRITERIA}::test_who_is_below_the_least_cosine_goes_behind_all_others",),
    ),
    Mutant(
        "selection.csv has identity and label in each other's column",
        f"{SELECTION}/csv_table.py",
        "identity,\n                    label,",
        "label,\n                    identity,",
        (f"{CRITERIA}::test_the_list_tells_the_new_set_from_the_source",),
    ),
    Mutant(
        "a broken file of what was said of images is believed",
        f"{SELECTION}/selection_job.py",
        "if data[:64] != hashlib.sha256(data[64:]).hexdigest().encode():\n            return None",
        "",
        (f"{SET}::test_what_was_said_before_is_believed_only_whole",),
    ),
    Mutant(
        "kept images are numbered as they were made",
        f"{ENGINE}/selected.py",
        "order = np.arange(len(best), dtype=np.int64)",
        "order = best.image",
        (f"{MADE}::test_people_are_chosen_from_whole_however_batches_cut_them[7]",),
    ),
    Mutant(
        "failed images are chosen among the others",
        f"{ENGINE}/selected.py",
        "failed=failed, **known",
        "**known",
        (f"{MADE}::test_people_are_chosen_from_whole_however_batches_cut_them[7]",),
    ),
    Mutant(
        "a manifest's two cosines of a choice come back as each other",
        f"{ENGINE}/selected.py",
        '(told.get("min_cosine"), told.get("duplicate_cosine"))',
        '(told.get("duplicate_cosine"), told.get("min_cosine"))',
        (f"{MADE}::test_what_a_manifest_tells_of_a_choice_is_that_choice",),
    ),
    Mutant(
        "299 people are enough, 300 are not",
        "v2f_engine/evaluate/by_group.py",
        "if people >= FEWEST:",
        "if people > FEWEST:",
        (f"{GROUPS}::test_300_trials_are_enough_and_299_are_not",),
    ),
    Mutant(
        "a group's errors are those of everybody",
        "v2f_engine/evaluate/by_group.py",
        "genuine_impostor(part.features, part.labels,",
        "genuine_impostor(table.features, table.labels,",
        (f"{GROUPS}::test_a_group_is_measured_alone",),
    ),
]
