// Counts the orders of each customer, and publishes the count.
package main

import busway "github.com/busway/busway/go"

func init() {
	busway.Handle(busway.Description{
		Name:          "my-plugin",
		Version:       "0.1.0",
		Summary:       "Counts the orders of each customer",
		Subscriptions: []busway.Subscription{{EventTypes: []string{"order.placed"}}},
		Emits:         []string{"order.counted"},
		Capabilities:  []string{"publish", "kv"},
	}, handle)
}

// The data of an order.placed.
type order struct {
	Customer *string `json:"customer"` // a pointer, so that one that is missing is told from ""
}

type counted struct {
	Customer string `json:"customer"`
	Orders   int64  `json:"orders"`
}

// All or nothing: what it published and wrote counts only if it returns nil.
func handle(event busway.Event, attempt uint32) error {
	var order order
	if err := event.Read(&order); err != nil || order.Customer == nil {
		return busway.Reject(`expected {"customer": string}, found %s`, event.Data)
	}
	orders, err := busway.Increment("orders/"+*order.Customer, 1)
	if err != nil {
		return err
	}
	busway.Infof("order %d of %s", orders, *order.Customer)
	_, err = busway.Publish(busway.NewEvent{Type: "order.counted", Data: counted{*order.Customer, orders}})
	return err
}

func main() {} // the hub calls handle
