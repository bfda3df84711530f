"""Tars: shards of samples (webdataset) and folders of people packed as tar, how strangers write them."""
