"""Models: the catalog of names, the store on disk, the two engines, and the one loader every task shares."""
