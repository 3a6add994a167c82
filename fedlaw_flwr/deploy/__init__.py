"""A federation of real silos from one YAML file: certificates, keys, containers, local processes."""
