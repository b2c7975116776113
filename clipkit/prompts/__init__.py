"""Prompts: template sets, label lists, and the ensemble that turns them into class vectors."""
