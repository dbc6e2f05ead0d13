// The components of the page, in one place to import from; see the files for their properties.
export {
  Component, Fragment, batch, computed, createContext, effect, html, render, signal, useCallback, useComputed, useContext, useEffect, useId,
  useLayoutEffect, useMemo, useRef, useSignal, useState,
} from "../vendor/preact.js";
export { Button, ButtonLink, Field, Form, Note, Search, Segmented, Select, useAction } from "./ui/action.js";
export { Loaded, More, useLoad, usePages } from "./ui/data.js";
export { Dialog, DialogHost, confirm, elevate, show } from "./ui/dialog.js";
export { Icon } from "./ui/icon.js";
export {
  Badge, Callout, Card, Code, Copy, Empty, Facts, Failed, Json, Loading, Online, OnlineBars, Page, Qr, Secret, Stat, Stats, Status, Time, copy, now,
} from "./ui/show.js";
export { Table } from "./ui/table.js";
