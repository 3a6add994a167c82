"""The ClientApps of silos that attack, for simulations and drills; absent from an honest silo's image."""
