"""Boxes from words: proposals, scores, suppression, and the recipes that put them together."""
