"""What the program says of a feature that it was built without."""

import os
import subprocess


def test_download_names_the_feature_that_it_needs():
    command = [os.environ["OBSCURA_BIN"], "models", "download", "flux1-schnell"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "--features download" in done.stderr
