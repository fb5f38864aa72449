"""The nightly refresh: new events in, checks, training, a judgement, one renaming."""
