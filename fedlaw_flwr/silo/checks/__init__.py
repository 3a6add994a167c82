"""What `fedlaw check` looks at in a silo's task: a file for each thing that can be wrong, a function for each check."""
