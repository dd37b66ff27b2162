"""Speech recognised as it is spoken: when utterances begin and end, drafts, commitments, finals."""
