"""MXNet RecordIO: frames, keys, and the lists that lie beside a .rec."""
