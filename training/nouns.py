"""What people call the things: words that name the same thing as far as a reader is concerned, by its commonest name.

The captions of training scenes are written in these words, pairs of things are held out by them, and the benchmark asks
for them and accepts any of their concepts.
"""

from __future__ import annotations

import re
import zlib

import inflect

ENGLISH = inflect.engine()

# noun: concepts' names that show it. The first is the plainest. All other concepts are called by their own name.
SAME = """
dog: dog, dog face, guide dog, service dog, poodle
cat: cat, cat face, black cat, grinning cat, grinning cat with smiling eyes, kissing cat, pouting cat, weary cat, crying cat, cat with wry smile, cat with tears of joy, smiling cat with heart-eyes
monkey: monkey, monkey face, see-no-evil monkey, hear-no-evil monkey, speak-no-evil monkey
tiger: tiger, tiger face
horse: horse, horse face
cow: cow, cow face
pig: pig, pig face
sheep: ewe, ram
camel: camel, two-hump camel
mouse: mouse, mouse face, rat
rabbit: rabbit, rabbit face
chicken: chicken, rooster
chick: baby chick, front-facing baby chick, hatching chick
bird: bird, black bird, dove
dragon: dragon, dragon face
dinosaur: sauropod, t-rex
whale: whale, spouting whale
fish: fish, tropical fish, blowfish
shell: spiral shell
bee: honeybee
ladybug: lady beetle
tree: deciduous tree, evergreen tree, tanabata tree, leafless tree, christmas tree
flower: blossom, tulip, hibiscus, rose, cherry blossom, white flower, sunflower, wilted flower
leaf: fallen leaf, leaf fluttering in wind, maple leaf, herb
mushroom: mushroom, brown mushroom
apple: red apple, green apple
orange: tangerine
corn: ear of corn
pepper: bell pepper, hot pepper
cheese: cheese wedge
ice cream: ice cream, soft ice cream, shaved ice
donut: doughnut
cake: birthday cake, shortcake, cupcake
coffee: hot beverage
beer: beer mug, clinking beer mugs
wine: wine glass
milk: glass of milk
car: automobile, sport utility vehicle, racing car, taxi, police car
truck: articulated lorry, delivery truck, pickup truck
bus: bus, minibus, trolleybus
train: train, locomotive, railway car, high-speed train, bullet train, metro, tram, light rail, tram car, monorail
fire truck: fire engine
scooter: motor scooter, kick scooter
boat: sailboat, speedboat, motor boat, canoe
ship: ship, passenger ship, ferry
airplane: airplane, small airplane, airplane departure, airplane arrival
ufo: flying saucer
house: house, house with garden, houses, derelict house, hut
castle: castle, japanese castle
mountain: mountain, snow-capped mountain, mount fuji
moon: crescent moon, full moon, full moon face, new moon face
sun: sun, sun with face
star: star, glowing star, shooting star
cloud: cloud
planet: ringed planet
snowman: snowman, snowman without snow
umbrella: umbrella, umbrella with rain drops, closed umbrella
heart: red heart, pink heart, orange heart, yellow heart, green heart, blue heart, light blue heart, purple heart, brown heart, black heart, grey heart, white heart, sparkling heart, beating heart, growing heart, heart with ribbon, heart suit
gift: wrapped gift
pumpkin: jack-o-lantern
ball: soccer ball, basketball, volleyball
hat: top hat, woman's hat, billed cap
cap: billed cap
shirt: t-shirt, running shirt
shoe: running shoe, man's shoe, flat shoe
boot: woman's boot, hiking boot
bag: handbag, clutch bag, purse, shopping bags
sunglasses: sunglasses
clock: alarm clock, mantelpiece clock, timer clock
watch: watch
book: closed book, green book, blue book, orange book, open book, notebook with decorative cover, notebook
books: books
phone: mobile phone, mobile phone with arrow, telephone, telephone receiver
laptop: laptop
computer: desktop computer, laptop
camera: camera, camera with flash
piano: musical keyboard
drum: drum, long drum
pencil: pencil
pen: pen, fountain pen
door: door
sword: dagger, crossed swords
key: key, old key
lamp: light bulb, diya lamp
globe: globe showing europe-africa, globe showing americas, globe showing asia-australia
mailbox: closed mailbox with raised flag, closed mailbox with lowered flag, open mailbox with raised flag, open mailbox with lowered flag, postbox
wizard: mage
king: person with crown
queen: princess
santa: santa claus
baby: baby
robot: robot
envelope: envelope, e-mail, love letter, incoming envelope, envelope with arrow
bell: bell, bellhop bell
skull: skull, skull and crossbones
tent: tent, camping, circus tent
alien: alien, alien monster
astronaut: astronaut
bear: bear, polar bear
dice: game die
flag: triangular flag, white flag, black flag, chequered flag
diamond: gem stone, diamond suit
egg: egg, cooking
potato: potato, roasted sweet potato
person: person, man, woman, person standing, older person, old man, old woman, boy, girl, child
traffic light: horizontal traffic light, vertical traffic light
suitcase: luggage
frisbee: flying disc
tennis racket: tennis
couch: couch and lamp
knife: kitchen knife
bottle: bottle with popping cork
bowl: bowl with spoon, steaming bowl
vase: amphora
sled: sled
fries: french fries
"""
NOUNS = {
    noun: tuple(name.strip() for name in names.split(","))
    for noun, names in (line.split(":") for line in SAME.strip().splitlines())
}
BY_CONCEPT = {name: noun for noun, names in reversed(NOUNS.items()) for name in names}


def noun_of(concept: str) -> str:
    """What a reader calls the concept of this name."""
    return BY_CONCEPT.get(concept) or re.sub(r" face$", "", concept)


def shown_by(noun: str) -> tuple[str, ...]:
    """The names of concepts that show ``noun``."""
    return NOUNS.get(noun, (noun,))


def held_out(one: str, other: str) -> bool:
    """Whether two nouns, or a noun and a setting, never come together in training: a tenth of all pairs."""
    return zlib.crc32("+".join(sorted((one, other))).encode()) % 10 == 0


def is_plural(phrase: str) -> bool:
    """Whether it takes no article: a pair or a heap, or a substance ("glasses", "grapes", "popcorn")."""
    last = phrase.split()[-1]
    substances = ("corn", "popcorn", "bacon", "coral", "sushi", "yarn", "spaghetti", "bread", "ice", "salt", "butter")
    return last in substances or (last.endswith("s") and not last.endswith(("ss", "us", "is", "as", "x-ray")))


def with_article(phrase: str) -> str:
    """The phrase with "a" or "an" before it, where it takes one.

    >>> with_article("owl"), with_article("red bus"), with_article("glasses")
    ('an owl', 'a red bus', 'glasses')
    """
    return phrase if is_plural(phrase) else ENGLISH.a(phrase)


def plural(phrase: str) -> str:
    """More than one of it.

    >>> plural("owl"), plural("mouse"), plural("glasses")
    ('owls', 'mice', 'glasses')
    """
    return phrase if is_plural(phrase) else ENGLISH.plural_noun(phrase)


# What the benchmark asks for and its judge tells apart, beside everything else.
JUDGED = sorted(
    name.strip()
    for name in [
        "\n    person",
        " bicycle",
        " car",
        " motorcycle",
        " airplane",
        " bus",
        " train",
        " truck",
        " boat",
        " traffic light",
        " stop sign",
        " bird",
        " cat",
        " dog",
        " horse",
        "\n    sheep",
        " cow",
        " elephant",
        " bear",
        " zebra",
        " giraffe",
        " backpack",
        " umbrella",
        " bag",
        " necktie",
        " suitcase",
        " frisbee",
        " skis",
        " ball",
        " kite",
        "\n    skateboard",
        " tennis racket",
        " wine",
        " spoon",
        " banana",
        " apple",
        " sandwich",
        " orange",
        " broccoli",
        " carrot",
        " hot dog",
        " pizza",
        " donut",
        " cake",
        "\n    chair",
        " couch",
        " potted plant",
        " bed",
        " toilet",
        " television",
        " laptop",
        " computer mouse",
        " keyboard",
        " phone",
        " book",
        " clock",
        " scissors",
        "\n    teddy bear",
        " toothbrush",
        " owl",
        " penguin",
        " frog",
        " lion",
        " tiger",
        " monkey",
        " rabbit",
        " mouse",
        " pig",
        " fox",
        " panda",
        " koala",
        " turtle",
        " snake",
        "\n    dragon",
        " whale",
        " dolphin",
        " fish",
        " shark",
        " octopus",
        " crab",
        " snail",
        " butterfly",
        " bee",
        " ladybug",
        " spider",
        " duck",
        " eagle",
        " parrot",
        "\n    flamingo",
        " swan",
        " chicken",
        " camel",
        " kangaroo",
        " hedgehog",
        " sun",
        " moon",
        " star",
        " cloud",
        " rainbow",
        " snowman",
        " tree",
        " palm tree",
        " cactus",
        "\n    flower",
        " mushroom",
        " strawberry",
        " pineapple",
        " watermelon",
        " lemon",
        " pear",
        " peach",
        " tomato",
        " corn",
        " avocado",
        " eggplant",
        " hamburger",
        "\n    ice cream",
        " cookie",
        " cheese",
        " coffee",
        " beer",
        " robot",
        " alien",
        " ghost",
        " skull",
        " astronaut",
        " heart",
        " crown",
        " hat",
        " key",
        " bell",
        " balloon",
        "\n    gift",
        " candle",
        " guitar",
        " violin",
        " trumpet",
        " drum",
        " camera",
        " rocket",
        " helicopter",
        " tractor",
        " castle",
        " house",
        " tent",
        " mountain",
        " anchor",
        "\n    pencil",
        " hammer",
        " sword",
        " bomb",
        " shoe",
        " boot",
        " shirt",
        " dress",
        " sunglasses",
        " diamond",
        " ring",
        " trophy",
        " lamp",
        " magnet",
        " envelope",
        " ufo",
        "\n    telescope",
        " dinosaur",
        " unicorn",
        " pumpkin\n    ",
    ]
)
