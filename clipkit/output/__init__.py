"""Results to files and streams: records, tables, masks, boxes, overlays."""
