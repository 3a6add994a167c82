"""The ClientApps: what runs in a silo, honest or, in experiments and drills only, Byzantine."""
