"""The Flower app that a federation's runs ship to every silo: two fixed files, copied as they are."""
