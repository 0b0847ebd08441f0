"""The columns of a data set put into the order in which a model has them."""

from dataclasses import replace

from priory.workbench.data import Dataset


def with_columns(dataset: Dataset, columns: tuple[str, ...]) -> Dataset:
    """The data set with these columns in this order; rows that are no longer whole images are no images.

    Raises:
        ValueError: columns are missing.
    """
    if dataset.columns == columns:
        return dataset
    place = {name: i for i, name in enumerate(dataset.columns)}
    missing = [name for name in columns if name not in place]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise ValueError(
            f"{dataset.origin}: expected the {len(columns)} columns that the model was trained on, and {len(missing)} "
            f"are missing ({shown}); it has {len(dataset.columns)} columns, from {dataset.columns[0]} on; add or "
            "rename them"
        )
    order = [place[name] for name in columns]
    image_shape = dataset.image_shape if len(columns) == len(dataset.columns) else None
    return replace(dataset, x=dataset.x[:, order], columns=columns, image_shape=image_shape)


def check_width(dataset: Dataset, columns: tuple[str, ...]) -> None:
    """Columns without names are matched by place, so there must be as many as there were."""
    if len(dataset.columns) != len(columns):
        raise ValueError(
            f"{dataset.origin}: expected {len(columns)} columns, as many as the model was trained on, got "
            f"{len(dataset.columns)}; give a file with the same columns in the same order"
        )
