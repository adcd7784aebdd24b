# frozen_string_literal: true

# Types of the template example/everything 1.0.0.
# Written by `tasker-ctl generate types`, which writes over changes.
module EverythingTypes
  # What a task is created with, defaults filled in.
  # An order.
  # In two lines, with */ and "quotes" and a \ backslash.
  # field: true or false, may be missing.
  # class_: String, may be missing.
  # anything: any JSON, may be missing.
  # balance: Integer, may be missing.
  # class_2: String, may be missing. A word that is reserved
  # customer: Person.
  # delivery: Address or nil, may be missing.
  # empty: ContextEmpty, may be missing.
  # flag: a constant, may be missing. Always true.
  # gr_e_1: Numeric, may be missing.
  # limits: ContextLimits, may be missing.
  # mood: ContextMood or nil, may be missing.
  # note: ContextNote, may be missing.
  # nothing: nil, may be missing.
  # odd: any JSON, may be missing. Any JSON: what the schema says of it, no type can say.
  # order_id: String. Its number. Format: uuid.
  # pair: Array<any JSON>, may be missing. The items differ by their place, which no type says: each is any JSON.
  # payment: ContextPayment.
  # prices: Hash<String, Numeric>, may be missing.
  # priority: ContextPriority. Default: "low".
  # quantity: Integer.
  # serial: Integer, may be missing.
  # size_: a constant, may be missing. One of 1, 2, 3.
  # tags: Array<String>, may be missing.
  Context = Struct.new(:field, :class_, :anything, :balance, :class_2, :customer, :delivery, :empty, :flag, :gr_e_1, :limits, :mood, :note, :nothing, :odd, :order_id, :pair, :payment, :prices, :priority, :quantity, :serial, :size_, :tags, keyword_init: true) do
    def self.from_document(document)
      new(
        field: document[""],
        class_: document["Class"],
        anything: document["anything"],
        balance: document["balance"],
        class_2: document["class"],
        customer: Person.from_document(document.fetch("customer")),
        delivery: document["delivery"]&.then { |item| Address.from_document(item) },
        empty: document["empty"],
        flag: document["flag"],
        gr_e_1: document["größe 1"],
        limits: document["limits"]&.then { |item| ContextLimits.from_document(item) },
        mood: document["mood"],
        note: document["note"],
        nothing: document["nothing"],
        odd: document["odd"],
        order_id: document.fetch("order-id"),
        pair: document["pair"],
        payment: document.fetch("payment"),
        prices: document["prices"],
        priority: document.fetch("priority"),
        quantity: document.fetch("quantity"),
        serial: document["serial"],
        size_: document["size"],
        tags: document["tags"],
      )
    end

    def to_document
      document = {
        "" => field,
        "Class" => class_,
        "anything" => anything,
        "balance" => balance,
        "class" => class_2,
        "customer" => customer.to_document,
        "delivery" => delivery&.then { |item| item.to_document },
        "empty" => empty,
        "flag" => flag,
        "größe 1" => gr_e_1,
        "limits" => limits&.then { |item| item.to_document },
        "mood" => mood,
        "note" => note,
        "nothing" => nothing,
        "odd" => odd,
        "order-id" => order_id,
        "pair" => pair,
        "payment" => payment,
        "prices" => prices,
        "priority" => priority,
        "quantity" => quantity,
        "serial" => serial,
        "size" => size_,
        "tags" => tags,
      }
      ["", "Class", "anything", "balance", "class", "delivery", "empty", "flag", "größe 1", "limits", "mood", "note", "nothing", "odd", "pair", "prices", "serial", "size", "tags"].each { |name| document.delete(name) if document[name].nil? }
      document
    end
  end

  # Somebody.
  # boss: Person, may be missing.
  # friends: Array<Person>, may be missing.
  # home: Address, may be missing.
  # name: String.
  Person = Struct.new(:boss, :friends, :home, :name, keyword_init: true) do
    def self.from_document(document)
      new(
        boss: document["boss"]&.then { |item| Person.from_document(item) },
        friends: document["friends"]&.then { |item| item.map { |item2| Person.from_document(item2) } },
        home: document["home"]&.then { |item| Address.from_document(item) },
        name: document.fetch("name"),
      )
    end

    def to_document
      document = {
        "boss" => boss&.then { |item| item.to_document },
        "friends" => friends&.then { |item| item.map { |item2| item2.to_document } },
        "home" => home&.then { |item| item.to_document },
        "name" => name,
      }
      ["boss", "friends", "home"].each { |name| document.delete(name) if document[name].nil? }
      document
    end
  end

  # city: String.
  # street: String.
  Address = Struct.new(:city, :street, keyword_init: true) do
    def self.from_document(document)
      new(
        city: document.fetch("city"),
        street: document.fetch("street"),
      )
    end

    def to_document
      document = {
        "city" => city,
        "street" => street,
      }
      document
    end
  end

  # ContextEmpty: an empty Hash.

  # least: Integer.
  # extra: Hash<String, any JSON>, what else there is.
  ContextLimits = Struct.new(:least, :extra, keyword_init: true) do
    def self.from_document(document)
      new(
        least: document.fetch("least"),
        extra: document.except("least"),
      )
    end

    def to_document
      document = {
        "least" => least,
      }
      document.merge(extra || {})
    end
  end

  ContextMood = ["good", "bad"].freeze

  # ContextNote: one of String, Integer, Array<Integer>, as it was parsed.

  # ContextPayment: one of ContextPaymentCard, ContextPaymentTransfer, as it was parsed.

  # card_number: String.
  # kind: ContextPaymentCardKind.
  # valid_until: String or nil, may be missing. Format: date.
  ContextPaymentCard = Struct.new(:card_number, :kind, :valid_until, keyword_init: true) do
    def self.from_document(document)
      new(
        card_number: document.fetch("card_number"),
        kind: document.fetch("kind"),
        valid_until: document["valid_until"],
      )
    end

    def to_document
      document = {
        "card_number" => card_number,
        "kind" => kind,
        "valid_until" => valid_until,
      }
      ["valid_until"].each { |name| document.delete(name) if document[name].nil? }
      document
    end
  end

  ContextPaymentCardKind = ["card"].freeze

  # amount: Numeric, may be missing.
  # kind: ContextPaymentTransferKind.
  ContextPaymentTransfer = Struct.new(:amount, :kind, keyword_init: true) do
    def self.from_document(document)
      new(
        amount: document["amount"],
        kind: document.fetch("kind"),
      )
    end

    def to_document
      document = {
        "amount" => amount,
        "kind" => kind,
      }
      ["amount"].each { |name| document.delete(name) if document[name].nil? }
      document
    end
  end

  ContextPaymentTransferKind = ["transfer"].freeze

  ContextPriority = ["low", "high", "very high", ""].freeze

  # What the step check returns.
  # lines: Array<CheckResultLinesItem>.
  # total: any JSON.
  # tree: Tree.
  CheckResult = Struct.new(:lines, :total, :tree, keyword_init: true) do
    def self.from_document(document)
      new(
        lines: document.fetch("lines").map { |item| CheckResultLinesItem.from_document(item) },
        total: document.fetch("total"),
        tree: document.fetch("tree"),
      )
    end

    def to_document
      document = {
        "lines" => lines.map { |item| item.to_document },
        "total" => total,
        "tree" => tree,
      }
      document
    end
  end

  # count_: Integer, may be missing.
  # sku: String.
  CheckResultLinesItem = Struct.new(:count_, :sku, keyword_init: true) do
    def self.from_document(document)
      new(
        count_: document["count"],
        sku: document.fetch("sku"),
      )
    end

    def to_document
      document = {
        "count" => count_,
        "sku" => sku,
      }
      ["count"].each { |name| document.delete(name) if document[name].nil? }
      document
    end
  end

  # Tree: Hash<String, Tree>.

  # What an instance of the step each-line returns.
  # EachLineResult: String.

  # What the step approve returns.
  # by: String.
  ApproveResult = Struct.new(:by, keyword_init: true) do
    def self.from_document(document)
      new(
        by: document.fetch("by"),
      )
    end

    def to_document
      document = {
        "by" => by,
      }
      document
    end
  end

  # What the step rest returns.
  # fired_at: String. Format: date-time.
  RestResult = Struct.new(:fired_at, keyword_init: true) do
    def self.from_document(document)
      new(
        fired_at: document.fetch("fired_at"),
      )
    end

    def to_document
      document = {
        "fired_at" => fired_at,
      }
      document
    end
  end

  # What an instance of the step part returns.
  # rows: Integer.
  PartResult = Struct.new(:rows, keyword_init: true) do
    def self.from_document(document)
      new(
        rows: document.fetch("rows"),
      )
    end

    def to_document
      document = {
        "rows" => rows,
      }
      document
    end
  end

  # What the step ship returns.
  # ShipResult: Array<Box>.

  # kg: Numeric.
  Box = Struct.new(:kg, keyword_init: true) do
    def self.from_document(document)
      new(
        kg: document.fetch("kg"),
      )
    end

    def to_document
      document = {
        "kg" => kg,
      }
      document
    end
  end

  # What an instance of the step each-line is given of its own.
  # item: CheckResultLinesItem. The element that is this instance's.
  # index: Integer. Its place among the instances, from 0.
  # total: Integer. How many instances there are.
  EachLineInputs = Struct.new(:item, :index, :total, keyword_init: true) do
    def self.from_document(document)
      new(
        item: CheckResultLinesItem.from_document(document.fetch("item")),
        index: document.fetch("index"),
        total: document.fetch("total"),
      )
    end

    def to_document
      document = {
        "item" => item.to_document,
        "index" => index,
        "total" => total,
      }
      document
    end
  end

  # The results that the step cut is given, by the names of the steps.
  # rest: RestResult.
  CutDependencies = Struct.new(:rest, keyword_init: true) do
    def self.from_document(document)
      new(
        rest: RestResult.from_document(document.fetch("rest")),
      )
    end

    def to_document
      document = {
        "rest" => rest.to_document,
      }
      document
    end
  end

  # What an instance of the step part is given of its own.
  # cursor: any JSON. The part of the work that is this instance's.
  # index: Integer. Its place among the instances, from 0.
  # total: Integer. How many instances there are.
  PartInputs = Struct.new(:cursor, :index, :total, keyword_init: true) do
    def self.from_document(document)
      new(
        cursor: document.fetch("cursor"),
        index: document.fetch("index"),
        total: document.fetch("total"),
      )
    end

    def to_document
      document = {
        "cursor" => cursor,
        "index" => index,
        "total" => total,
      }
      document
    end
  end

  # How an instance of the step part ended.
  # error: any JSON, may be missing. Why it failed.
  # index: Integer. Its place among the instances, from 0.
  # result: PartResult, may be missing. What it returned.
  # status: String. Its state: complete, resolved_manually or error.
  PartInstance = Struct.new(:error, :index, :result, :status, keyword_init: true) do
    def self.from_document(document)
      new(
        error: document["error"],
        index: document.fetch("index"),
        result: document["result"]&.then { |item| PartResult.from_document(item) },
        status: document.fetch("status"),
      )
    end

    def to_document
      document = {
        "error" => error,
        "index" => index,
        "result" => result&.then { |item| item.to_document },
        "status" => status,
      }
      ["error", "result"].each { |name| document.delete(name) if document[name].nil? }
      document
    end
  end

  # The results that the step ship is given, by the names of the steps.
  # each_line: Array<EachLineResult>, may be missing. A reference in place of the list, where the results are too long together.
  # approve: ApproveResult, may be missing.
  # part: Array<PartInstance>, may be missing. A reference in place of the list, where the results are too long together.
  ShipDependencies = Struct.new(:each_line, :approve, :part, keyword_init: true) do
    def self.from_document(document)
      new(
        each_line: document["each-line"],
        approve: document["approve"]&.then { |item| ApproveResult.from_document(item) },
        part: document["part"]&.then { |item| item.map { |item2| PartInstance.from_document(item2) } },
      )
    end

    def to_document
      document = {
        "each-line" => each_line,
        "approve" => approve&.then { |item| item.to_document },
        "part" => part&.then { |item| item.map { |item2| item2.to_document } },
      }
      ["each-line", "approve", "part"].each { |name| document.delete(name) if document[name].nil? }
      document
    end
  end

  # What the event order.shipped says.
  # at: String. Format: date-time.
  OrderShippedEvent = Struct.new(:at, keyword_init: true) do
    def self.from_document(document)
      new(
        at: document.fetch("at"),
      )
    end

    def to_document
      document = {
        "at" => at,
      }
      document
    end
  end
end
