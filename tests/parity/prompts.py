"""The prompts of the golden files: each is there for a reason."""

PANGRAM = "The quick brown fox jumps over the lazy dog. "

PROMPTS = {
    "plain": "a photo of a cat sitting on a wooden table",
    "empty": "",
    "blank": "   ",
    "punctuation": "Wait... what?! (a \"red\" door; 50% off) -- it's $3.99 & #1 @home_now/then\\[x]{y}~`^|<>+=",
    "emoji": "a 🦊 and a 👩‍🚀 under the 🏳️‍🌈, ☕️ in hand 😀😀",
    "cjk": "一只猫坐在桌子上，猫がテーブルの上に、고양이가 탁자 위에",
    "accents": "Café à la crème, Straße in Zürich, naïve coöperation, Ångström, İstanbul, ﬁne ½ №5 e\u0301",
    "upper": "A LIGHTHOUSE AT DAWN, OIL ON CANVAS, BY AN UNKNOWN MASTER",
    "blanks": "  two   cats \t and\n\n one\u00a0dog\u3000 outside \r\n ",
    "contractions": "it's we're they've I'm you'll he'd don't O'Brien's",
    "digits": "in 1984, 3.14159 and 2,718 of 1000000 at 12:30",
    "scripts": "Кошка на столе, γάτα στο τραπέζι, قطة على الطاولة, बिल्ली मेज़ पर",
    "control": "a\u0000b\u0007c\u200bd\u202ee\ufefff\u00adg\ufffdh",
    "special": "a <|endoftext|> b <|startoftext|> c </s> d <pad> e <unk> f <extra_id_0> g",
    "full_clip": "a " * 75,  # one token each; with the two ends 77
    "over_clip": "a " * 76,
    "full_t5": "a " * 255,  # with the end 256
    "over_t5": "a " * 256,
    "beyond_clip": PANGRAM * 12,
    "beyond_t5": PANGRAM * 80,
    "beyond_unbroken": "a" * 700,
}
