-- A record of schema 1: crm runs, wiki waits for its first visitor, gone was removed.
PRAGMA application_id = 1312969554;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE apps (
    name TEXT NOT NULL PRIMARY KEY,
    sum INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
INSERT INTO "apps" VALUES('crm',2636165752658891260,'{"v":1,"generation":1,"intent":"run","awake":false,"intent_seq":2,"start_seq":2,"created_at":1795527428486,"life":"kept","purge_data":false,"jwt":"x1:c73414484ccaf4173eaf7bd3df017cb93ce993fc67db1c0b022a51833eec67ad399e058c4d34b9cdc1162a773baf24ee41c27d675411e103ff607e749c08d9ae71013887f0b299b2489d610d545ad1218f37a852320dc66f05e1b784d305900b1cd05e88e9f11e43","spec":{"name":"crm","title":null,"runtime":"sleeper","environments":["local"],"start_mode":"manual","env":{"TZ":"UTC"},"secrets":{"MAIL_PASSWORD":"x1:ce1aab349c2516ff484503b2e1c0d87e80440f02a90f04ce52b4fbe42865a1476a5cf948f8b4d6af83717c484617f85501fe6876a49c8b69d0c2b32ab0dde06931fcecf6"},"memory_max":536870912,"cpu_quota":null,"tasks_max":null,"io_weight":null,"proxy":{"choice":"required","environment":null,"hold_timeout_us":null},"labels":{},"placements":{}}}');
INSERT INTO "apps" VALUES('wiki',723828153573014365,'{"v":1,"generation":1,"intent":"on-demand","awake":false,"intent_seq":3,"start_seq":0,"created_at":1795527428780,"life":"kept","purge_data":false,"jwt":"x1:7776d55d610495e2a071a1fc1553b6ab387fa0418ba85c838da06102194b878c09f048717373b84679f9c02cc720855fdc1bda59d39da396f5338a9e4e3f625ecd4ec24091b26aba43da9c60afe1887fe6e5932c861970b8be8a4e83e471ccba2410fb4f435f63b5","spec":{"name":"wiki","title":null,"runtime":"sleeper","environments":["local"],"start_mode":"on-first-visit","env":{},"secrets":{},"memory_max":null,"cpu_quota":null,"tasks_max":null,"io_weight":null,"proxy":{"choice":"required","environment":null,"hold_timeout_us":null},"labels":{},"placements":{}}}');
INSERT INTO "apps" VALUES('gone',7551404995711836610,'{"v":1,"generation":1,"intent":"stop","awake":false,"intent_seq":5,"start_seq":0,"created_at":1795527428807,"life":"removed","purge_data":false,"jwt":"x1:d366323df32a637bc4d6a41e95271595623a8ee49db698300cfae8653bd54cd583bc2c4cbd94aa2f","spec":{"name":"gone","title":null,"runtime":"sleeper","environments":["local"],"start_mode":"manual","env":{},"secrets":{},"memory_max":null,"cpu_quota":null,"tasks_max":null,"io_weight":null,"proxy":{"choice":"required","environment":null,"hold_timeout_us":null},"labels":{},"placements":{}}}');
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    app TEXT,
    sum INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
INSERT INTO "events" VALUES(1,'crm',-6467208789933388303,'{"v":1,"seq":1,"at":1795527428486,"app":"crm","environment":null,"kind":"app_created","message":"crm created by root","operation":"01M86WCJC5FDC3YHV7DB51HNGA"}');
INSERT INTO "events" VALUES(2,'crm',-7589208986798436854,'{"v":1,"seq":2,"at":1795527428570,"app":"crm","environment":null,"kind":"app_start_accepted","message":"crm told to start by root","operation":"01M86WCJETWBQE0H2SW4FSMXWM"}');
INSERT INTO "events" VALUES(3,'crm',-1067894387420608282,'{"v":1,"seq":3,"at":1795527428702,"app":"crm","environment":"local","kind":"instance_running","message":"crm is running","operation":null}');
INSERT INTO "events" VALUES(4,'wiki',-1398015183985082749,'{"v":1,"seq":4,"at":1795527428780,"app":"wiki","environment":null,"kind":"app_created","message":"wiki created by root","operation":"01M86WCJNCZFN5Y44JKV9SPS1Z"}');
INSERT INTO "events" VALUES(5,'gone',-8072272335596560898,'{"v":1,"seq":5,"at":1795527428807,"app":"gone","environment":null,"kind":"app_created","message":"gone created by root","operation":"01M86WCJP7512D1PRT7B1V9TPG"}');
INSERT INTO "events" VALUES(6,'gone',912195955398811348,'{"v":1,"seq":6,"at":1795527428929,"app":"gone","environment":null,"kind":"app_remove_accepted","message":"gone told to go by root","operation":"01M86WCJT096KWH8GSSAZ9AC7C"}');
INSERT INTO "events" VALUES(7,'gone',1509818776643397104,'{"v":1,"seq":7,"at":1795527428949,"app":"gone","environment":"local","kind":"app_removed","message":"gone was removed; its data was kept","operation":null}');
CREATE TABLE instances (
    app TEXT NOT NULL PRIMARY KEY,
    sum INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
INSERT INTO "instances" VALUES('crm',8149603943175716078,'{"v":1,"app":"crm","epoch":1,"generation":1,"intent_seq":2,"goal":{"be":"run","start_seq":2,"jwt":"x1:4d821106c448a57fadc401f27637021e02b0a0cb9ffd364aaee0ab3de7f222f3ed13ddefe85bc62535318081f53f11031fc0462e923dfccac1e38edaf55291336c1d2a2a0fdbaee7179b5fcc9b4bb66d19561922b1622c71fc63c5c295f04c172562cabb745fe6ce","spec":{"name":"crm","title":null,"runtime":"sleeper","environments":["local"],"start_mode":"manual","env":{"TZ":"UTC"},"secrets":{"MAIL_PASSWORD":"x1:814d410459a3ff5320bbe754daf9b954ac2a75a06b15640cda35cbdc0c15df606244cfd6dc7050e32e914548c1f3171ab1711399c42cca0be17ec7fbfd10fad634f56ce2"},"memory_max":536870912,"cpu_quota":null,"tasks_max":null,"io_weight":null,"proxy":{"choice":"required","environment":null,"hold_timeout_us":null},"labels":{},"placements":{}}},"run":"2.0","run_generation":1,"adapter":"process","hooks_done":0,"hook_begun":false,"in_turn":false,"port":null,"identity":{"pid":10748,"start_ticks":599702,"boot":"boot-1"},"phase":"running","since":1795527428668,"reason":null,"restarts":0,"last_log":[]}');
CREATE TABLE keys (
    actor TEXT NOT NULL,
    key TEXT NOT NULL,
    at INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (actor, key)
) STRICT;
INSERT INTO "keys" VALUES('root','e7958ebed00ef24e45cadffd4ce22250',1795527428486,3047117140318103569,'{"v":1,"actor":"root","key":"e7958ebed00ef24e45cadffd4ce22250","request":"a04d7e81493ab67537cf135ec4ec0267ab7e46c453391fad8609488765a8ad74","operation":"01M86WCJC5FDC3YHV7DB51HNGA","at":1795527428486}');
INSERT INTO "keys" VALUES('root','23f50987aaa87462d05a58939b3cb88f',1795527428570,4605443367371317838,'{"v":1,"actor":"root","key":"23f50987aaa87462d05a58939b3cb88f","request":"0d62412608cd58aec41a5259ef51bd372964e2941685ced8c6cf93ab46bf362f","operation":"01M86WCJETWBQE0H2SW4FSMXWM","at":1795527428570}');
INSERT INTO "keys" VALUES('root','96e76a3f9135a8d9a523244f26bfa894',1795527428780,4880395627419641475,'{"v":1,"actor":"root","key":"96e76a3f9135a8d9a523244f26bfa894","request":"404ba61c17941539801e54fbf29d8a5cc4a618840f1cff8e8371b2d28ddf40a8","operation":"01M86WCJNCZFN5Y44JKV9SPS1Z","at":1795527428780}');
INSERT INTO "keys" VALUES('root','44f4960e0adf2034e142fdfba7fb1a7a',1795527428807,-2401059569269643503,'{"v":1,"actor":"root","key":"44f4960e0adf2034e142fdfba7fb1a7a","request":"f63465de14ddf5216ae3534b35073e866bbf3fd95f2c0e4cea8fd473c441ff3f","operation":"01M86WCJP7512D1PRT7B1V9TPG","at":1795527428807}');
INSERT INTO "keys" VALUES('root','845a4a64bcf55da5bf88d210e7043598',1795527428929,-5475082904869971798,'{"v":1,"actor":"root","key":"845a4a64bcf55da5bf88d210e7043598","request":"c86d79922b54633bcd67dc2d7f3ff3f72dc596dea8e7aaa2e8264b0034117cb3","operation":"01M86WCJT096KWH8GSSAZ9AC7C","at":1795527428929}');
CREATE TABLE meta (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    key_check TEXT NOT NULL,
    seq INTEGER NOT NULL,
    seq_sum INTEGER NOT NULL,
    boot TEXT,
    boot_sum INTEGER
) STRICT;
INSERT INTO "meta" VALUES(1,'x1:102e2ac8bb4a3af6e433f8fe3c4de39fb2358ca298b734fd38678fb24db5651c3feb32aca1ec44ff4fa4ee8c2b9b91ba86a7be61',5,-5808614047758576592,'boot-1',-7231720517127515205);
CREATE TABLE operations (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    app TEXT NOT NULL,
    ended INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
INSERT INTO "operations" VALUES(1,'01M86WCJC5FDC3YHV7DB51HNGA','crm',1,6891635552806747025,'{"v":1,"id":"01M86WCJC5FDC3YHV7DB51HNGA","seq":1,"app":"crm","action":"create","environments":["local"],"status":"done","reason":null,"created_at":1795527428486,"finished_at":1795527428486,"actor":"root","start_seq":0}');
INSERT INTO "operations" VALUES(2,'01M86WCJETWBQE0H2SW4FSMXWM','crm',1,-761471976800006515,'{"v":1,"id":"01M86WCJETWBQE0H2SW4FSMXWM","seq":2,"app":"crm","action":"start","environments":["local"],"status":"done","reason":null,"created_at":1795527428570,"finished_at":1795527428702,"actor":"root","start_seq":2}');
INSERT INTO "operations" VALUES(3,'01M86WCJNCZFN5Y44JKV9SPS1Z','wiki',1,-137030099468931541,'{"v":1,"id":"01M86WCJNCZFN5Y44JKV9SPS1Z","seq":3,"app":"wiki","action":"create","environments":["local"],"status":"done","reason":null,"created_at":1795527428780,"finished_at":1795527428780,"actor":"root","start_seq":0}');
INSERT INTO "operations" VALUES(4,'01M86WCJP7512D1PRT7B1V9TPG','gone',1,-2772016252288113113,'{"v":1,"id":"01M86WCJP7512D1PRT7B1V9TPG","seq":4,"app":"gone","action":"create","environments":["local"],"status":"done","reason":null,"created_at":1795527428807,"finished_at":1795527428807,"actor":"root","start_seq":0}');
INSERT INTO "operations" VALUES(5,'01M86WCJT096KWH8GSSAZ9AC7C','gone',1,-5551389806314675608,'{"v":1,"id":"01M86WCJT096KWH8GSSAZ9AC7C","seq":5,"app":"gone","action":"remove","environments":["local"],"status":"done","reason":null,"created_at":1795527428929,"finished_at":1795527428949,"actor":"root","start_seq":0}');
CREATE TABLE tokens (
    name TEXT NOT NULL PRIMARY KEY,
    sum INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;
CREATE INDEX operations_ended ON operations (ended, seq);
CREATE INDEX operations_app ON operations (app, seq);
CREATE INDEX events_app ON events (app, seq);
CREATE INDEX keys_at ON keys (at);
COMMIT;
