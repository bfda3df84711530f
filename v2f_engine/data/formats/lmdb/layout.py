"""LMDB files (data version 1, as liblmdb 0.9 has it) by hand: a bulk writer and a reader that cannot crash.

Why not liblmdb. Reading: it maps the file and trusts it; 163 of 200 byte-flipped files killed the process by
signal. Here every page is a plain read with its bounds checked, and damage is a DatasetError. Writing: its
bytes depend on the machine's page size, on library version and on transaction history; here they depend on
the data alone, are written front to back, and each shard's values fill a contiguous run of pages with a hash
of its own.

File: pages of 4,096 bytes. Pages 0 and 1 are meta pages (the one with the larger transaction number counts).
Every value lies in overflow pages (16-byte header, then the bytes); leaf pages hold (key, size, page) sorted
by key, branch pages hold (first key, page). Layout: `struct MDB_page`, `MDB_meta`, `MDB_node` in liblmdb's
mdb.c.
"""

from __future__ import annotations

import struct

PAGE = 4096
MAGIC, VERSION = 0xBEEFC0DE, 1
BRANCH, LEAF, OVERFLOW, META = 0x01, 0x02, 0x04, 0x08
BIGDATA = 0x01
"""Node flag: the value lies in overflow pages, the node holds their number."""

HEADER = struct.Struct("<QHHHH")  # page number, pad, flags, lower, upper
OVERFLOW_HEADER = struct.Struct("<QHHI")  # page number, pad, flags, number of pages
NODE = struct.Struct(
    "<HHHH"
)  # leaf: size low, size high, flags, key size; branch: page number (48 bits), key size
META_START = struct.Struct("<IIQQ")  # magic, version, fixed address, map size
TREE = struct.Struct("<IHHQQQQQ")  # pad, flags, depth, branch, leaf and overflow pages, entries, root
META_END = struct.Struct("<QQ")  # last page, transaction
NO_PAGE = 2**64 - 1
INTEGER_KEY, NO_SUBDIR = 0x08, 0x4000
ROOM = PAGE - HEADER.size
META_SIZE = META_START.size + 2 * TREE.size + META_END.size
