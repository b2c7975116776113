"""Videos decode ahead in threads: order kept, memory bounded, errors in their place, nothing left running."""

import threading
import time

import numpy as np
import pytest
from support.fake import FakeClip
from video_clips import film, picture, steady

from clipkit.errors import InputError
from clipkit.media.paths import Source
from clipkit.video import frames
from clipkit.video.ahead import decode_ahead
from clipkit.video.frames import VideoOptions, embed_videos
from clipkit.video.sampling import Sampling


def counted(item):
    """Three pieces of an item."""
    for piece in range(3):
        yield item * 10 + piece


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_items_and_pieces_keep_their_order(workers):
    """Whatever the number of threads, items come in order and their pieces too."""
    found = [(item, list(pieces)) for item, pieces in decode_ahead(range(9), counted, workers=workers)]
    assert found == [(i, [10 * i, 10 * i + 1, 10 * i + 2]) for i in range(9)]


def test_at_most_so_many_pieces_wait():
    """Threads stop where nobody takes: no more than the window is ever made."""
    made = []

    def pieces(item):
        for piece in range(100):
            made.append((item, piece))
            yield piece

    stream = decode_ahead(range(50), pieces, workers=3, depth=2)
    _, first = next(stream)
    next(first)
    time.sleep(0.3)
    assert len(made) <= 3 * (2 + 2)
    stream.close()


def test_pieces_may_be_left():
    """A consumer that leaves an item's pieces unread gets the next item all the same."""
    assert [item for item, _ in decode_ahead(range(6), counted, workers=2, depth=1)] == list(range(6))


def test_an_error_comes_where_it_happened():
    """What a piece raises is raised at its item, after the pieces before it; later items go on."""

    def pieces(item):
        yield item
        if item == 1:
            raise InputError("corrupt", "no more")

    found = []
    for item, stream in decode_ahead(range(3), pieces, workers=2):
        try:
            found += list(stream)
        except InputError as error:
            found.append((item, error.kind))
    assert found == [0, (1, "corrupt"), 2]


def test_closing_stops_the_threads():
    """A closed stream leaves no thread decoding."""

    def endless(item):
        while True:
            yield item

    stream = decode_ahead(range(4), endless, workers=3)
    _, first = next(stream)
    next(first)
    stream.close()
    deadline = time.monotonic() + 5
    while any(t.name == "clipkit-video" for t in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [t for t in threading.enumerate() if t.name == "clipkit-video"]


def test_decoding_overlaps_the_model(tmp_path):
    """While the model works on one video the next one is decoded: its frames are ready before it is asked for."""
    paths = [film(tmp_path / f"{i}.mp4", steady(5), size=(96, 64)) for i in range(3)]
    clip = FakeClip()
    clip.colours = {(0, 0, 0): "x"}
    read, seen_at_first = [], []
    crop = clip.preprocess.crop

    def noted(image):
        read.append(threading.current_thread().name)
        return crop(image)

    encode = clip.encode_images

    def slow(pixels, **options):
        deadline = time.monotonic() + 5
        while not seen_at_first and len(read) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)  # the first forward pass takes as long as the second video's decoding
        seen_at_first.append(len(read))
        return encode(pixels, **options)

    clip.encode_images = slow
    options = VideoOptions(Sampling(frames=1), workers=2)
    sources = [Source(p.name, p) for p in paths]
    assert len(list(embed_videos(sources, clip, options, crop=noted))) == 3
    assert seen_at_first[0] >= 2
    assert set(read) == {"clipkit-video"}


def test_a_long_video_is_encoded_in_chunks(tmp_path, monkeypatch):
    """Frames go to the model so many at a time and come out whole and in order."""
    monkeypatch.setattr(frames, "CHUNK", 7)
    path = film(tmp_path / "a.mp4", steady(40, 10), size=(96, 64), draw=picture)
    clip = FakeClip()
    clip.colours = {(0, 0, 0): "x"}
    sizes = []
    encode = clip.encode_images
    clip.encode_images = lambda pixels, **options: (sizes.append(len(pixels)), encode(pixels, **options))[1]
    ((_, video),) = embed_videos([Source("a", path)], clip, VideoOptions(Sampling(fps=10, frames=None)))
    assert sizes == [7, 7, 7, 7, 7, 5]
    assert video.embeddings.shape == (40, 16)
    np.testing.assert_allclose(video.times, np.arange(40) / 10, atol=1e-3)
