"""Word lists: what is listed is found however it is spelled, and ordinary words are let through."""

from __future__ import annotations

import pytest
import yaml

from models.safety.script import (
    FOLDER,
    check_script,
    find_terms,
    languages,
    lists_sha256,
    word_list,
)


def _verdicts(text: str, locale: str) -> set[tuple[str, str]]:
    return {(f.rule, f.verdict) for f in check_script(text, locale)}


@pytest.mark.parametrize(
    ("locale", "text"),
    [
        ("en", "Hi Anna, our spring sale starts today. Save 20% on everything, only this week!"),
        ("en-GB", "Scunthorpe assesses classic cocktails, a bass player and a shiitake dish."),
        ("en", "Last chance: buy one, get one free. Order now at example.com, 5 for $50."),
        ("de", "Hallo Jürgen, der Frühling ist da: Sie sparen zwanzig Prozent auf alles."),
        ("fr", "Bonjour Zoé, le printemps est là : profitez de vingt pour cent de remise."),
        ("es", "Hola José, la primavera ya está aquí: ahorra un veinte por ciento en to_make."),
        ("it", "Ciao Nicolò, la primavera è arrivata: risparmia il venti per cento su tutto."),
        ("pt-BR", "Olá João, a primavera chegou: economize vinte por cento em tudo."),
        ("ja", "こんにちは、花子さん。春のセールが始まりました。全品二割引きです。"),
        ("en", ""),
        ("en", "1234 56 %"),
    ],
)
def test_an_ordinary_line_passes(locale: str, text: str) -> None:
    assert _verdicts(text, locale) == {("script.none", "pass")}


@pytest.mark.parametrize(
    ("locale", "text", "rule", "verdict"),
    [
        ("en", "This is bullshit.", "profanity", "block"),
        ("en", "Guaranteed returns, every month", "financial_claims", "review"),
        ("en", "A miracle cure for everyone", "medical_claims", "review"),
        ("en", "Buy guns here", "weapons", "review"),
        ("en", "Your account has been suspended", "scam", "review"),
        ("en", "You can't lose", "financial_claims", "review"),
        ("en", "Congratulations, you've won a car", "scam", "review"),
        ("de", "Das ist doch Scheiße", "profanity", "block"),
        ("de-AT", "Garantierte Renditen für alle", "financial_claims", "review"),
        ("de", "Wir verkaufen Waffen und Munition", "weapons", "review"),
        ("de", "Ihr Konto wurde gesperrt", "scam", "review"),
        ("fr", "Quelle merde !", "profanity", "block"),
        ("fr", "Un remède miracle", "medical_claims", "review"),
        ("fr", "Un rendement garanti, sans risque", "financial_claims", "review"),
        ("es", "Vaya mierda", "profanity", "block"),
        ("es_MX", "Dinero fácil para todos", "financial_claims", "review"),
        ("es", "Ha ganado usted un coche", "scam", "review"),
        ("it", "Che cazzo", "profanity", "block"),
        ("it", "Guadagno garantito", "financial_claims", "review"),
        ("it", "Una cura miracolosa", "medical_claims", "review"),
        ("pt", "Que merda", "profanity", "block"),
        ("pt-BR", "Você ganhou um prêmio", "scam", "review"),
        ("pt", "Lucro garantido", "financial_claims", "review"),
        ("ja", "この薬で必ず痩せる", "medical_claims", "review"),
        ("ja", "元本保証の投資です", "financial_claims", "review"),
        ("ja", "お前は死ね", "profanity", "block"),
    ],
)
def test_a_listed_term_is_found(locale: str, text: str, rule: str, verdict: str) -> None:
    assert (f"script.{rule}", verdict) in _verdicts(text, locale)


@pytest.mark.parametrize(
    "text",
    [
        "BULLSHIT",
        "bullshits",
        "bullsh1t",
        "bull$hit",
        "b u l l s h i t",
        "b.u.l.l.s.h.i.t",
        "bull-shit",
        "bulllllshit",
        "bullsh*t",
        "bull\u200bshit",
        "bull\u00adshit",
        "ｂｕｌｌｓｈｉｔ",
        "𝐛𝐮𝐥𝐥𝐬𝐡𝐢𝐭",
        "bu\u0301llshi\u0300t",
        "bullѕhіt",
        "bullsниt",
        "bullshit!!!",
        "(bullshit)",
    ],
)
def test_a_disguise_does_not_help(text: str) -> None:
    words = word_list("en")
    assert words is not None
    line = f"Well, {text} indeed"
    (match,) = find_terms(line, words)
    assert match.category == "profanity"
    assert line[match.start : match.end].strip("!()").startswith(("b", "B", "ｂ", "𝐛"))
    assert match.start == 6 + text.startswith("(")


@pytest.mark.parametrize("text", ["元 本 保 証", "元本・保証", "元本\u200b保証"])
def test_spaces_do_not_hide_a_japanese_term(text: str) -> None:
    assert ("script.financial_claims", "review") in _verdicts(f"これは{text}です", "ja")


def test_a_finding_says_where_and_what() -> None:
    (finding,) = check_script("It is risk-free.", "en")
    assert finding.detail == "characters 6-15: 'risk-free' (en list: risk free)"


def test_a_language_without_a_list_is_unavailable() -> None:
    assert _verdicts("Hej", "sv") == {("script.unavailable", "unavailable")}
    assert _verdicts("Hej", "") == {("script.unavailable", "unavailable")}
    assert _verdicts("Hej", "../en") == {("script.unavailable", "unavailable")}


def test_a_line_in_another_script_is_not_judged_by_the_list() -> None:
    assert _verdicts("今日からセールが始まります", "en") == {("script.unavailable", "unavailable")}


@pytest.mark.parametrize("language", languages())
def test_every_entry_of_a_list_finds_itself(language: str) -> None:
    words = word_list(language)
    assert words is not None
    raw = yaml.safe_load((FOLDER / f"{language}.yaml").read_bytes())
    assert len(raw["categories"]) == 7
    for name, category in raw["categories"].items():
        assert category["severity"] in ("review", "block")
        for entry in category["entries"]:
            text = str(entry).replace("=", "").replace("*", "")
            assert name in {match.category for match in find_terms(text, words)}, entry


def test_the_lists_have_a_version() -> None:
    assert len(lists_sha256()) == 64
    assert set(languages()) >= {"en", "de", "fr", "es", "it", "pt", "ja"}
