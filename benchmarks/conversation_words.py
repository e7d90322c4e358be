"""What is said in `benchmarks.conversations`: phonemes and their advice, questions and their answers."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Phoneme:
    """One sound of English, as pupils fail at it."""

    name: str
    """ARPAbet, as a pronunciation scorer reports it."""
    letters: str
    """How a teacher would say which sound it is."""
    advice: str
    """What to do with tongue, lips or voice."""
    words: tuple[str, ...]
    """Words that have it, for practice."""


def _phoneme(name: str, letters: str, advice: str, words: str) -> Phoneme:
    return Phoneme(name, letters, advice, tuple(words.split()))


PHONEMES: Final = (
    # The order is that of their frequency as errors in `conversations`: first those that learners of
    # English are known to fail at most (interdentals, liquids, tense and lax vowels), then the others.
    _phoneme("TH", "th", "put your tongue between your teeth and blow", "thin three bath thunder teeth moth"),
    _phoneme(
        "R", "r", "pull your tongue back and touch nothing with it", "red rain carrot river around berry"
    ),
    _phoneme(
        "DH",
        "voiced th",
        "put your tongue between your teeth and hum",
        "this mother weather breathe then other",
    ),
    _phoneme("IH", "short i", "keep your lips loose and make it short", "ship sit kitten fish big listen"),
    _phoneme("V", "v", "rest your teeth on your lip and hum", "van river seven glove very oven"),
    _phoneme(
        "L", "l", "press the tip of your tongue behind your teeth", "leaf yellow ball lemon silly light"
    ),
    _phoneme("AE", "short a", "drop your jaw and spread your lips", "cat apple hand lamp black rabbit"),
    _phoneme("W", "w", "make your lips round before you start", "water wind away wood sweet week"),
    _phoneme("IY", "long e", "smile and hold the sound", "sheep eat green leaf three teacher"),
    _phoneme("SH", "sh", "push your lips forward and blow softly", "ship fish shell ocean wash shadow"),
    _phoneme("Z", "z", "make an s and let your voice hum", "zoo buzz busy nose lizard prize"),
    _phoneme("AH", "short u", "relax your mouth and let it fall open", "cup sun mother lunch under duck"),
    _phoneme(
        "CH", "ch", "stop the air first, then let it burst out", "chin lunch teacher chair match cheese"
    ),
    _phoneme("NG", "ng", "keep the back of your tongue up to the end", "sing ring long finger morning king"),
    _phoneme("UH", "short oo", "round your lips a little and keep it short", "book foot good wood cook pull"),
    _phoneme("JH", "j", "stop the air, then hum as it bursts out", "jam orange bridge giant jelly cage"),
    _phoneme("ER", "er", "curl your tongue back and hold it", "bird turn girl water nurse early"),
    _phoneme("S", "s", "keep your teeth close and hiss like a snake", "sun grass pencil sister mouse city"),
    _phoneme("AA", "o as in hot", "open your mouth wide", "hot rock bottle clock doctor pond"),
    _phoneme("UW", "long oo", "push your lips forward and hold the sound", "moon blue spoon food two ruler"),
    _phoneme("T", "t", "tap the ridge behind your teeth and let go", "top water table kitten left ten"),
    _phoneme("EH", "short e", "open your mouth halfway and keep it short", "bed pen head friend seven egg"),
    _phoneme("F", "f", "rest your teeth on your lip and blow", "fish leaf coffee phone laugh funny"),
    _phoneme("HH", "h", "breathe out as if you fogged a window", "hat behind house happy whole hill"),
    _phoneme("EY", "long a", "begin open and glide to a smile", "cake rain day table eight train"),
    _phoneme("OW", "long o", "make your lips rounder as you go", "boat home snow open yellow road"),
    _phoneme("D", "d", "tap the ridge behind your teeth and hum", "dog ladder red door middle hand"),
    _phoneme("K", "k", "stop the air at the back of your mouth", "cat kite basket duck cookie school"),
    _phoneme("AO", "aw", "round your lips and drop your jaw", "ball dog talk water saw morning"),
    _phoneme("G", "g", "stop the air at the back and hum", "goat tiger bag garden again frog"),
    _phoneme("Y", "y", "lift the middle of your tongue and glide off", "yes yellow onion yard young beyond"),
    _phoneme("AY", "long i", "begin wide open and close to a smile", "kite five light my tiger sky"),
    _phoneme("P", "p", "close your lips and let a puff of air go", "pen apple map puppy top spoon"),
    _phoneme("B", "b", "close your lips and hum as they open", "ball rabbit cub baby table boat"),
    _phoneme("AW", "ow", "begin wide open and round your lips", "cow house mouth brown cloud town"),
    _phoneme("N", "n", "hum through your nose, tongue behind your teeth", "nose pen dinner sun nine rain"),
    _phoneme("M", "m", "close your lips and hum", "moon lamp summer mom game milk"),
    _phoneme("OY", "oy", "begin round and glide to a smile", "boy coin toy noise point enjoy"),
    _phoneme("ZH", "zh", "say sh and let your voice hum", "measure vision treasure beige garage usual"),
)

PER_RANGES: Final = ("0-10", "10-25", "25-50", "50-100")
"""Phoneme error rate in percent, as the classroom's cache keys have it."""

PRAISE: Final = (
    ("Great job!", "Excellent!", "Well done!"),
    ("Nice work!", "Good job!", "Very good!"),
    ("Good try!", "Nice try!", "You are getting there."),
    ("Let's slow down.", "Let's try that again.", "Keep going."),
)
"""How feedback begins, by range."""

ADVICE: Final = (
    ("Your {letters} sound is almost perfect.", "The {letters} sound was clear nearly every time."),
    ("For the {letters} sound, {advice}.", "When you see {letters}, {advice}."),
    ("The {letters} sound needs some practice, so {advice}.", "Work on the {letters} sound: {advice}."),
    ("Listen to the {letters} sound once more, then {advice}.", "To make the {letters} sound, {advice}."),
)
"""By range."""

PRACTICE: Final = (
    "Now read this: the {0} and the {1} are near the {2}.",
    "Try these: {0}, {1}, {2}, {3}.",
    "Say it with me: {0} and {1}, then {2} and {3}.",
    "Practise with {0}, {1} and {2}.",
)

STOCK_PHRASES: Final = (
    "Great job speaking English! However, please say the Urdu sentence to proceed.",
    "No speech detected.",
    "Please speak a little louder.",
    "Excellent! Let's go on to the next sentence.",
    "Almost. Please repeat after me.",
    "That was correct. Well done!",
    "Please say the whole sentence.",
    "I did not catch that. Please try again.",
)
"""What an application says in its own words, without a model."""

EXERCISES: Final = tuple(
    f"{subject} {rest}"
    for subject in ("I", "My brother", "The teacher", "Our neighbour", "The children")
    for rest in (
        "will go to the market tomorrow",
        "drank a cup of tea this morning",
        "wrote a letter to a friend",
        "found the key under the table",
    )
)
"""Sentences that a tutor's lessons have their learners translate."""

QUESTIONS: Final = (
    ("When is the next assignment due?", "It is due on Friday at noon.", "Late work loses a tenth a day."),
    (
        "How do I submit my homework?",
        "Upload it on the course page.",
        "You can replace it until the deadline.",
    ),
    ("What will be on the midterm?", "It covers weeks one to six.", "Proofs from the lectures may be asked."),
    (
        "Can you explain recursion?",
        "A function that calls itself is recursive.",
        "Each call works on a smaller problem.",
    ),
    (
        "Where can I find the lecture slides?",
        "They are on the course page.",
        "New ones appear the evening before.",
    ),
    ("What's a pointer?", "A pointer holds the address of a value.", "You follow it to read what is there."),
    ("How is the course graded?", "Homework counts forty percent.", "The final exam counts the other sixty."),
    (
        "What's the difference between a list and a tuple?",
        "A list can change after it was made.",
        "A tuple stays as it is.",
    ),
    (
        "Can I get an extension?",
        "Write to the teaching staff before the deadline.",
        "A doctor's note always helps.",
    ),
    (
        "What's big O notation?",
        "It says how the work grows with the input.",
        "Constants do not matter in it.",
    ),
    (
        "When are the office hours?",
        "They are on Tuesday and Thursday afternoon.",
        "The room is on the course page.",
    ),
    (
        "How does binary search work?",
        "You look at the middle and drop one half.",
        "So every step halves what is left.",
    ),
    (
        "What's a hash table?",
        "It finds a place for each key by a hash.",
        "Looking something up takes one step.",
    ),
    (
        "Do we need to know the proofs?",
        "You should know the short ones.",
        "The long ones are for your own interest.",
    ),
    (
        "How do I install the compiler?",
        "The setup guide has a page for each system.",
        "The lab machines have it already.",
    ),
    ("What is an integral?", "It is the area under a curve.", "You add up thinner and thinner strips."),
    (
        "Can I work with a partner?",
        "Pairs are welcome for the project.",
        "Homework is for each of you alone.",
    ),
    (
        "What does a segmentation fault mean?",
        "The program touched memory that is not its own.",
        "A wild pointer is the usual cause.",
    ),
    (
        "What's the chain rule?",
        "It tells how to differentiate a nested function.",
        "You multiply the outer and the inner slope.",
    ),
    ("How long is the final exam?", "It takes two hours.", "Bring one page of notes."),
    (
        "What's a derivative?",
        "It is the slope of a curve at a point.",
        "It tells how fast something changes.",
    ),
    ("Is attendance required?", "The lectures are free to attend.", "The labs count for your grade."),
    (
        "What is dynamic programming?",
        "You solve small problems once and keep the answers.",
        "The large problem is built from them.",
    ),
    (
        "How do I join the discussion group?",
        "There is a link on the course page.",
        "Use your student address.",
    ),
    ("What is a stack?", "What goes in last comes out first.", "Think of a pile of plates."),
    (
        "Why does my loop never end?",
        "Its condition never becomes false.",
        "Print the counter in every round.",
    ),
    (
        "What is the difference between a process and a thread?",
        "Threads share their memory.",
        "Processes each have their own.",
    ),
    ("Can I resubmit the first homework?", "Yes, once, within a week.", "The better mark counts."),
    ("What is a matrix?", "It is a table of numbers.", "It stands for a linear map."),
    ("Where is the lab?", "It is in the basement of the main building.", "Your card opens the door."),
)
"""A question, and the body of its answer."""

OPENINGS: Final = ("Good question.", "Sure.", "Of course.", "Happy to help.")
CLOSINGS: Final = ("Does that help?", "Let me know if you want an example.", "Is there anything else?")

FOLLOW_UPS: Final = (
    ("Can you give me an example?", "Sure, here is an example."),
    ("Can you explain that more simply?", "Of course, in simpler words."),
    ("Why is that?", "There is a good reason for it."),
    ("Can you say that again?", "Sure, once more."),
    ("How do I remember that?", "Here is a way to remember it."),
    ("Is that always true?", "In this course it always is."),
)
"""What students ask behind an answer whatever it was, and how the answer to it begins."""

ACKNOWLEDGEMENTS: Final = ("ok", "thanks", "thank you", "got it", "ok thanks", "great", "I see")
WELCOME: Final = ("You're welcome!", "Glad that helped.", "Anytime. Good luck!")

TOPICS: Final = (
    "the heap exercise",
    "my parser",
    "the second proof",
    "question four",
    "the sorting lab",
    "the graph problem",
    "my project plan",
    "the reading for week five",
    "the linear map",
    "the regular expression",
    "the last quiz",
    "my test cases",
    "the network lab",
    "the cache simulator",
    "the limit in part two",
    "the group report",
)
TROUBLES: Final = (
    "gives a wrong result for {n} items",
    "takes {n} seconds on my machine",
    "fails at line {n}",
    "is off by {n}",
    "does not match the answer {n} in the book",
    "stops after {n} rounds",
    "needs {n} steps and I only see a few",
    "was marked down by {n} points",
)
"""Of questions that nobody asks twice."""
