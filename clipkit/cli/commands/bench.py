"""`clipkit bench`: a group, one module a measurement."""

from clipkit.cli.lazy import Entry, lazy_app

COMMANDS = (
    Entry("zero-shot", "clipkit.cli.commands.bench_zero_shot", "Accuracy of classify on class folders or a CSV."),
    Entry("segment", "clipkit.cli.commands.bench_segment", "Mean IoU of segment on pictures with index masks."),
    Entry("detect", "clipkit.cli.commands.bench_detect", "AP and CorLoc of detect on pictures with boxes."),
    Entry("depth", "clipkit.cli.commands.bench_depth", "Errors of depth on photographs with measured depth."),
    Entry("retrieve-video", "clipkit.cli.commands.bench_retrieve_video", "How well captions find their videos."),
)

app = lazy_app(COMMANDS, "Measure accuracy and speed on labelled data.")
