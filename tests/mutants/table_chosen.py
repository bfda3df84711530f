"""Faults of images chosen among others, of groups measured, of sets that grow, and of the options that ask for them."""

from __future__ import annotations

from mutant import Mutant
from table_wiring import option

SELECTION, WRITING, ENGINE = "v2f_engine/selection", "v2f_engine/data/writing", "v2f_engine/pipeline"
CLI = "v2f_engine/cli"
CRITERIA, SET = "tests/selection/test_criteria.py", "tests/selection/test_chosen_set.py"
MADE, GROUPS = "tests/selection/test_made_and_chosen.py", "tests/evaluate/test_by_group.py"
EXTENSION, GROWING = "tests/test_extension.py", "tests/data/test_data_growth.py"

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
        "selection.csv numbers kept images as the source does",
        f"{SELECTION}/csv_table.py",
        'np.cumsum(table["kept"]) - 1',
        "np.arange(len(table))",
        (f"{SET}::test_the_kept_images_pass_byte_for_byte[webdataset]",),
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
        "as many are made as are kept",
        f"{ENGINE}/generation.py",
        "images = replace(images, images_per_id=asked.choice.make)",
        "",
        (f"{MADE}::test_the_kept_images_are_those_of_the_whole_run",),
    ),
    Mutant(
        "a manifest's two cosines of a choice come back as each other",
        f"{ENGINE}/selected.py",
        '(told.get("min_cosine"), told.get("duplicate_cosine"))',
        '(told.get("duplicate_cosine"), told.get("min_cosine"))',
        (f"{MADE}::test_what_a_manifest_tells_of_a_choice_is_that_choice",),
    ),
    Mutant(
        "v2f generate drops make",
        f"{CLI}/generate.py",
        "        choice.options,\n",
        "",
        option("generate", "make"),
    ),
    Mutant(
        "v2f generate has the two cosines of a choice in each other's place",
        f"{CLI}/generate.py",
        "self.select_min_cosine,\n            self.select_duplicate_cosine,",
        "self.select_duplicate_cosine,\n            self.select_min_cosine,",
        option("generate", "select-min-cosine"),
    ),
    Mutant(
        "v2f generate drops mix",
        f"{CLI}/generate.py",
        "mix=self.mix,",
        "",
        option("generate", "mix"),
    ),
    Mutant(
        "v2f ids plan forgets the budget of a table that goes on",
        f"{CLI}/growth.py",
        "backend=backend, max_candidates=max_candidates)",
        "backend=backend)",
        option("ids plan", "max-candidates"),
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
    Mutant(
        "a set that is not finished is extended",
        f"{ENGINE}/extension.py",
        "if begun.grown:",
        "if True:",
        (f"{EXTENSION}::test_no_set_or_one_that_is_not_finished",),
    ),
    Mutant(
        "a set of a guarded cone is extended",
        f"{ENGINE}/extension.py",
        'if "nearest_sha256" in settings["perturbation"]:',
        "if False:",
        (f"{EXTENSION}::test_what_counts_over_all_people_does_not_grow",),
    ),
    Mutant(
        "a set is extended by other people",
        f"{ENGINE}/extension.py",
        "same = len(table) >= len(own) and np.array_equal(table.vectors[:both], own.vectors)",
        "same = len(table) >= len(own)",
        (f"{EXTENSION}::test_given_people_begin_with_the_sets_own",),
    ),
    Mutant(
        "a set is extended by its people under other numbers",
        f"{ENGINE}/extension.py",
        "if not (same and np.array_equal(table.keys[:both], own.keys)):",
        "if not same:",
        (f"{EXTENSION}::test_given_people_begin_with_the_sets_own",),
    ),
    Mutant(
        "a grown manifest has the hash of another than the old one",
        f"{WRITING}/grow.py",
        "old.plan.shards, digest(old), now()",
        "old.plan.shards, digest(asked), now()",
        (f"{GROWING}::test_grown_once_more_is_a_finished_set",),
    ),
    Mutant(
        "a set that grew twice tells of the last time alone",
        f"{WRITING}/grow.py",
        "grown=(*old.grown, was)",
        "grown=(was,)",
        (f"{GROWING}::test_nobody_who_is_there_is_made_again[webdataset]",),
    ),
]
