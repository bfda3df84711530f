"""To the Hugging Face Hub and back, through the user's own huggingface_hub (extra `hub`).

Nothing goes up unless what goes, how much of it, under which licence and who will see it was said and agreed to;
whatever comes down is compared with what its manifest says, and nothing of it is run.
"""
