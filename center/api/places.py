"""What the four kinds of resources have in common as routes."""

from typing import Annotated

from fastapi import Query

from center import resources
from center.api.shapes import PutAnswer
from center.desk import Desk
from wire import specs

DryRun = Annotated[bool, Query(description="say what would happen, and change nothing")]


def put(desk: Desk, resource: specs.Resource, dry_run: bool, **place: str) -> PutAnswer:
    """Put a resource at the place that the path names. Raises SpecError where the two differ."""
    for field, named in place.items():
        written = getattr(resource.metadata, field)
        if written != named:
            message = f"the path says {named}, the document {written}"
            raise resources.problem("metadata", field, message=message)
    return PutAnswer.of(desk.put(resource, dry_run=dry_run), dry_run)
