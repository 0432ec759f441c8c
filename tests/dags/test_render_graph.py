"""The shape of the render graph: exactly these tasks, exactly these edges."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.airflow

EDGES = {
    "read_brief": {"validate_rows"},
    "validate_rows": {"plan"},
    "compile_template.ingest_template": {
        "compile_template.classify_template",
        "compile_template.track_face",
    },
    "compile_template.track_face": {
        "compile_template.measure_template",
        "compile_template.template_chunks",
        "row_chunks",
    },
    "compile_template.measure_template": {
        "compile_template.analyse_face",
        "compile_template.encode_plate",
        "compile_template.template_chunk.encode_plate",
        "compile_template.template_chunk.upscale_plate",
        "compile_template.upscale_plate",
    },
    "compile_template.upscale_plate": {"compose_chunk", "render_shard.compose"},
    "compile_template.encode_plate": {"render_shard.compose"},
    "compile_template.analyse_face": {"render_shard.face_swap", "row_chunk.face_swap"},
    "compile_template.classify_template": {"render_shard.classify"},
    "compile_template.template_chunk.upscale_plate": {"compile_template.template_chunks_done"},
    "compile_template.template_chunk.encode_plate": {"compile_template.template_chunks_done"},
    "compile_template.template_chunks_done": {
        "compile_template.encode_plate",
        "compile_template.upscale_plate",
    },
    "render_shard.ingest_recipients": {"render_shard.measure_inputs"},
    "render_shard.measure_inputs": {"render_shard.face_swap"},
    "render_shard.face_swap": {"render_shard.lip_sync", "render_shard.upscale"},
    "render_shard.lip_sync": {"render_shard.compose"},
    "render_shard.upscale": {"render_shard.compose"},
    "render_shard.compose": {"render_shard.classify", "render_shard.measure_render"},
    "render_shard.measure_render": {"collect_reviews", "render_shard.sign"},
    "render_shard.classify": {"collect_reviews", "render_shard.sign"},
    "render_shard.sign": {"render_shard.publish"},
    "render_shard.publish": {"collect_features"},
    "ingest_for_chunks": {"measure_for_chunks"},
    "measure_for_chunks": {"row_chunk.face_swap"},
    "row_chunk.face_swap": {"row_chunk.lip_sync", "row_chunk.upscale"},
    "row_chunk.lip_sync": {"compose_chunk", "row_chunks_done"},
    "row_chunk.upscale": {"compose_chunk", "row_chunks_done"},
    "row_chunks_done": {"render_shard.face_swap"},
    "compose_chunk": {"compose_chunks_done"},
    "compose_chunks_done": {"render_shard.compose"},
    "reviewed.review": {"reviewed.record_decision"},
    "reviewed.record_decision": {"reviewed.sign_reviewed"},
    "reviewed.sign_reviewed": {"reviewed.publish_reviewed"},
    "reviewed.publish_reviewed": {"collect_features"},
    "collect_features": {"report"},
    "report": set(),
}
LISTS = ("plan", "collect_reviews", "row_chunks", "compile_template.template_chunks")
"""Tasks whose lists every task of a mapped group reads."""


@pytest.mark.parametrize("dag_id", ["campaign_render", "render_ad"])
def test_edges(dags, dag_id):
    found = {
        task.task_id: set(task.downstream_task_ids)
        for task in dags[dag_id].tasks
        if task.task_id not in LISTS
    }
    assert found == EDGES


def test_every_stage_is_in_the_graph(dags):
    from include.stages.specs import STAGES

    used = {task.stage for task in dags["campaign_render"].tasks if hasattr(task, "stage")}
    assert used == set(STAGES)


def test_rows_that_pass_do_not_wait_for_a_review(dags):
    dag = dags["campaign_render"]
    before = dag.get_task("render_shard.publish").get_flat_relative_ids(upstream=True)
    assert not any(name.startswith("reviewed.") for name in before)
    assert "collect_reviews" not in before


def test_shards_and_reviews_are_mapped_groups_at_the_top_level(dags):
    groups = dags["campaign_render"].task_group.children
    assert type(groups["render_shard"]).__name__ == "MappedTaskGroup"
    assert type(groups["reviewed"]).__name__ == "MappedTaskGroup"


def test_shards_do_not_wait_for_the_plate_before_compose(dags):
    dag = dags["campaign_render"]
    before = dag.get_task("render_shard.upscale").get_flat_relative_ids(upstream=True)
    assert "compile_template.upscale_plate" not in before
    assert not any(name.startswith("compile_template.template_chunk.upscale") for name in before)


def test_a_chunk_that_fails_does_not_stop_the_stage_that_can_make_it(dags):
    dag = dags["campaign_render"]
    for name in ("template_chunks_done", "row_chunks_done", "compose_chunks_done"):
        task = next(task for task in dag.tasks if task.task_id.endswith(name))
        assert task.trigger_rule == "all_done"


def test_an_unanswered_question_means_no(dags):
    review = dags["campaign_render"].get_task("reviewed.review")
    assert review.options == ["Approve", "Reject"]
    assert review.defaults == ["Reject"]


def test_mapped_tasks_have_readable_names(dags):
    for task in dags["campaign_render"].tasks:
        if task.get_closest_mapped_task_group() is not None:
            assert "['label']" in task.map_index_template, task.task_id


def test_edges_follow_from_what_stages_read():
    from include.stages.specs import stage_edges

    assert ("face_swap", "lip_sync") in stage_edges()
    assert ("ingest_template", "compose") not in stage_edges()  # implied by others
