"""What may happen to a set of faces on its way, and what is then the exact data: known without any reader of ours.

A damage writes a layout (`Case.make`), changes its files, and says what a reader may answer: the people that are then
there (none where data was destroyed), or always a named error. `must`: nothing was lost, so it has to be read.
"""

from __future__ import annotations

from damage_case import Damage
from damages_of_bytes import byte_flipped, container_cut, long_name, other_spelling, shuffled
from damages_of_labels import (
    index_shifted,
    key_missing,
    label_moved,
    label_text,
    labels_longer,
    labels_shorter,
)
from damages_of_neighbours import (
    foreign_file,
    hidden_file,
    moved_into_folder,
    nobody_added,
    set_beside,
    split_added,
)
from damages_of_pictures import (
    member_removed,
    member_repeated,
    picture_cut,
    picture_empty,
    picture_unread,
    shared_picture,
    unread_kind,
)

DAMAGES: tuple[tuple[str, Damage], ...] = tuple(
    (damage.__name__.replace("_", " "), damage)
    for damage in (
        member_repeated, key_missing, labels_shorter, labels_longer, split_added, hidden_file, long_name, picture_empty,
        picture_cut, picture_unread, member_removed, index_shifted, set_beside, unread_kind, foreign_file, label_text,
        label_moved, container_cut, byte_flipped, moved_into_folder, shuffled, shared_picture, other_spelling,
        nobody_added,
    )
)  # fmt: skip  # fmt: skip
