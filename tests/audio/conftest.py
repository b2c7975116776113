"""Small sound files made on the spot: no recording is kept in the repository."""

import numpy as np
import pytest
from sound_files import RATE, encode


@pytest.fixture
def write(tmp_path):
    """`write("a.wav", samples, rate, subtype=...)` -> the path; the extension picks the writer."""
    import soundfile

    def _write(name, samples, rate=RATE, *, subtype=None, picture=False):
        path = tmp_path / name
        if path.suffix in {".m4a", ".mp4", ".mkv"}:
            encode(path, samples, rate, "aac", picture=picture)
        elif path.suffix == ".opus":
            soundfile.write(path, samples, rate, format="OGG", subtype="OPUS")
        else:
            soundfile.write(path, np.asarray(samples).T, rate, subtype=subtype)
        return path

    return _write
