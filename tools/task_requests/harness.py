"""What the harness itself decides: a task's templates over local data, tokens, windows. Needs lm_eval 0.4; nothing
is downloaded."""
import json
import os
import types

import lm_eval
import lm_eval.tasks
from lm_eval.api.model import TemplateLM
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from transformers import AutoTokenizer, PretrainedConfig

from .file import RequestError, request

KINDS = ("loglikelihood", "multiple_choice", "loglikelihood_rolling")
COMPUTED = {
    "loglikelihood": {"acc", "perplexity"},
    "multiple_choice": {"acc", "acc_norm", "acc_bytes"},
    "loglikelihood_rolling": {"word_perplexity", "byte_perplexity", "bits_per_byte"},
}


def version():
    return f"lm_eval {lm_eval.__version__}"


class Tokens(HFLM):
    """The harness's model of Hugging Face without a model: keeps what it would be asked for."""

    def __init__(self, folder, max_length, prefix_token):  # of HFLM's constructor only what needs no model
        TemplateLM.__init__(self)
        self.tokenizer = tokenizer_of(folder)
        self._model = types.SimpleNamespace(config=config_of(folder))
        self._max_length = max_length
        self.backend, self.add_bos_token, self.custom_prefix_token_id = "causal", None, prefix_token
        self.batch_size_per_gpu, self._rank, self._world_size = 1, 0, 1
        if self.prefix_token_id is None:
            raise RequestError(f"{folder}: the tokenizer has neither a bos nor an eos token; give --prefix-token")
        self.asked = []

    def _loglikelihood_tokens(self, requests, **_):
        self.asked += [(list(context), list(continuation)) for _, context, continuation in requests]
        return [(0.0, False)] * len(requests)

    def pairs_of(self, instances, rolling):
        """The (context, continuation) that the harness scores for the instances, before it cuts them."""
        self.asked = []
        if rolling:
            self.loglikelihood_rolling(instances, disable_tqdm=True)
        else:
            TemplateLM.loglikelihood(self, instances, disable_tqdm=True)
        return self.asked


def tokenizer_of(folder):
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # transformers has exceptions of many kinds
        raise RequestError(f"{folder}: its tokenizer cannot be read: {one_line(error)}") from error
    if not len(tokenizer):
        raise RequestError(f"{folder}: holds no tokenizer; copy tokenizer.json and tokenizer_config.json there")
    return tokenizer


def config_of(folder):
    path = os.path.join(folder, "config.json")
    if not os.path.exists(path):
        return PretrainedConfig()
    with open(path, encoding="utf-8") as file:
        return PretrainedConfig(**json.load(file))


def task_config(name):
    """The configuration of a task of the harness, or of a YAML file."""
    path = name if os.path.exists(name) else registered_path(name)
    try:
        from lm_eval.tasks._yaml_loader import load_yaml
        return load_yaml(path)
    except ImportError:  # earlier ones
        from lm_eval.utils import load_yaml_config
        return load_yaml_config(yaml_path=path, mode="full")


def registered_path(name):
    index = lm_eval.tasks.TaskManager().task_index
    entry = index.get(name)
    path = getattr(entry, "yaml_path", None) or (isinstance(entry, dict) and entry.get("yaml_path"))
    if not path or path == -1:
        raise RequestError(f"{name}: is no task of {version()} and no file")
    return str(path)


def load_task(name, data):
    """The task over the local file `data`, JSON lines in the task's own format."""
    config = task_config(name)
    splits = {config.get(f"{split}_split") for split in ("training", "validation", "test", "fewshot")} - {None}
    config.update(dataset_path="json", dataset_name=None, dataset_kwargs={"data_files": dict.fromkeys(splits, data)})
    for key in ("tag", "group", "task_list"):
        config.pop(key, None)
    try:
        task = ConfigurableTask(config=config)
    except Exception as error:  # the harness and datasets have exceptions of many kinds
        raise RequestError(f"{data}: is not what task {name} reads: {one_line(error)}") from error
    check_task(task, name)
    return task


def check_task(task, name):
    kind = task.OUTPUT_TYPE
    if kind not in KINDS:
        raise RequestError(f"{name}: its output_type is {kind}; scored are {', '.join(KINDS)}")
    if task.config.num_fewshot:
        raise RequestError(f"{name}: asks for {task.config.num_fewshot} examples in the context; only 0 are supported")
    if kind != "loglikelihood_rolling" and task.config.process_results is not None:
        raise RequestError(f"{name}: computes its metrics in a function of its own, which cannot be done here")
    if task.multiple_input or task.multiple_target:
        raise RequestError(f"{name}: has several inputs or several right answers per document")


def one_line(error):
    return (" ".join(str(error).split()) or type(error).__name__)[:300]


def other_metrics(task):
    """Metrics that the task has and depthroute-eval does not compute."""
    return sorted(set(map(str, task.aggregation())) - COMPUTED[task.OUTPUT_TYPE])


def documents(task, tokens, limit=None, numbers=None):
    """One dictionary per document, as the file has them. `numbers`: of the documents wanted, or None for all."""
    try:
        task.build_all_requests(limit=limit, rank=0, world_size=1)
    except Exception as error:
        raise RequestError(f"task {task.config.task}: the data are not what it reads: {one_line(error)}") from error
    by_document = {}
    for instance in task.instances:
        if numbers is None or instance.doc_id in numbers:
            by_document.setdefault(instance.doc_id, []).append(instance)
    return [document(task, tokens, number, instances) for number, instances in sorted(by_document.items())]


def document(task, tokens, number, instances):
    kind = task.OUTPUT_TYPE
    rolling = kind == "loglikelihood_rolling"
    requests = []
    for context, continuation in tokens.pairs_of(instances, rolling):
        if not continuation or len(continuation) > tokens.max_length:
            raise RequestError(f"document {number}: {len(continuation)} tokens are to be scored; the harness needs at"
                               f" least 1 and at most the model's length, {tokens.max_length}")
        requests.append(request(context, continuation, tokens.max_length))
    if not requests:
        raise RequestError(f"document {number}: has no tokens; remove it from the data")
    result = {"doc": number}
    doc = instances[0].doc
    if kind == "multiple_choice":
        choices, gold = task.doc_to_choice(doc), task.doc_to_target(doc)
        gold = choices.index(gold) if isinstance(gold, str) and gold in choices else gold
        if not isinstance(gold, int) or not 0 <= gold < len(choices):
            raise RequestError(f"document {number}: the right answer is {gold!r}, not one of {len(choices)} choices"
                               " counted from 0; test sets without answers cannot be scored")
        if len(choices) != len(requests):
            raise RequestError(f"document {number}: {len(requests)} requests for {len(choices)} choices")
        result["gold"] = gold
        for one, choice in zip(requests, choices):
            one.update(characters=len(choice), bytes=len(choice.encode()))
    if rolling:
        weights = task.process_results(doc, (0.0,))
        try:
            result["words"], result["bytes"] = weights["word_perplexity"][1], weights["byte_perplexity"][1]
        except (KeyError, TypeError, IndexError) as error:
            raise RequestError("the task has no word_perplexity and byte_perplexity, whose words and bytes are"
                               " needed") from error
        if not result["bytes"]:
            raise RequestError(f"document {number}: is empty; remove it from the data")
    result["requests"] = requests
    return result
