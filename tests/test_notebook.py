"""A notebook: a separate kernel executes the cells, and results have displays."""

import re

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.slow  # the kernel imports torch and Lightning

CELLS = (
    """
    import priory, torch
    from priory import VAE, BernoulliDecoder, GTMVampPrior, NormalEncoder, TopographicMap, latent_grid, mlp
    torch.manual_seed(0)
    x = torch.rand(120, 6).round()
    labels = ["odd" if total % 2 else "even" for total in x.sum(1).int()]
    prior = GTMVampPrior(latent_grid(4), mlp(2, [8], 6), low=0.0, high=1.0)
    vae = VAE(NormalEncoder(mlp(6, [8], 4)), BernoulliDecoder(mlp(2, [8], 6)), prior)
    """,
    "vae",
    "priory.fit(vae, x, x, epochs=3, seed=0)",
    "priory.evaluate(vae, x, num_samples=64)",
    "priory.evaluate(vae, x, num_samples=64).to_frame()",
    "print(priory.evaluate(vae, x, num_samples=64)['nll'])",
    "drawn = TopographicMap(vae, x)\ndrawn",
    "drawn.plot(labels)",
    "drawn.plot(labels).figure",
    "priory.refit(vae, priory.MixtureOfGaussians(2, 3), x, seed=0, epochs=2)",
    "priory.save(vae, 'model')\nrepr(priory.load('model')) == repr(vae)",
)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """Return the outputs of each cell by MIME type, and its printed text as `stdout` or `stderr`."""
    cells = [nbformat.v4.new_code_cell("\n".join(line.strip() for line in cell.splitlines())) for cell in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    folder = tmp_path_factory.mktemp("notebook")
    NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    return [
        {key: text for output in cell.outputs for key, text in shown(output).items() if text} for cell in notebook.cells
    ]


def shown(output) -> dict[str, str]:
    return {output["name"]: output["text"]} if output["output_type"] == "stream" else dict(output.get("data", {}))


def test_only_the_progress_bar_of_training_is_on_stderr(outputs):
    assert [number for number, output in enumerate(outputs) if "stderr" in output and number != 2] == []


def test_the_text_of_a_model_has_the_sizes_of_its_prior(outputs):
    assert "grid 4 x 4, K=16, L from the encoder" in outputs[1]["text/plain"]


def test_a_history_is_displayed_as_a_table_and_a_picture(outputs):
    html = outputs[2]["text/html"]
    assert re.findall("<tr><td>(best|last)</td>", html) == ["best", "last"]
    assert "data:image/png" in html


def test_an_evaluation_is_displayed_as_a_table(outputs):
    assert re.search(r"<td>nll</td><td>\S+ ± \S+ nats</td><td>-log p\(x\)", outputs[3]["text/html"])
    assert "description" in outputs[4]["text/html"]
    assert re.fullmatch(r"\d+\.\d+ ± \d+\.\d+\n", outputs[5]["stdout"])


def test_a_map_is_displayed_as_a_picture(outputs):
    assert "TopographicMap(rows=120, nodes=4 x 4" in outputs[6]["text/html"]
    assert "data:image/png" in outputs[6]["text/html"]
    assert all("image/png" in outputs[cell] for cell in (7, 8))


def test_a_refitted_prior_is_displayed_in_one_line(outputs):
    assert outputs[9]["text/plain"].startswith("Refitted(MixtureOfGaussians")


def test_a_saved_model_can_be_loaded(outputs):
    assert outputs[10]["text/plain"] == "True"
